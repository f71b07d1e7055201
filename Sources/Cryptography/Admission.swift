import QUIC
import Wire

/// A server's answer to datagrams that belong to no connection of its own: let a client in, ask it for proof of its
/// address, tell it which versions there are, or reset what was forgotten. Nothing is remembered for any of these.
public final class Admission {
    /// A client that may have a connection.
    public struct Client: Sendable, Equatable {
        /// Where its Initial packet came from.
        public var address: SocketAddress
        /// The ID that it wants to be addressed by.
        public var source: ConnectionID
        /// The ID that its Initial packets carry, and that their keys come from. It leads to the new connection too.
        public var destination: ConnectionID
        /// The destination of its very first Initial packet.
        public var originalDestination: ConnectionID
        /// The ID that our Retry gave it, when there was one.
        public var retrySource: ConnectionID?
        /// Whether a token proved its address, so that the limit of section 8.1 does not hold.
        public var isValidated: Bool
    }

    /// What to do with a datagram.
    public enum Decision: Sendable, Equatable {
        /// Make a connection and hand it the datagram.
        case admit(Client)
        /// Send this back.
        case reply([UInt8])
        /// Nothing: it is not for us, or deserves no answer.
        case ignore
    }

    /// Counts since the beginning.
    public struct Counters: Sendable, Equatable {
        /// Clients that may have a connection.
        public var admitted: UInt64 = 0
        /// Retry packets sent.
        public var retries: UInt64 = 0
        /// Version Negotiation packets sent.
        public var versionNegotiations: UInt64 = 0
        /// Stateless resets sent.
        public var resets: UInt64 = 0
        /// Clients refused with INVALID_TOKEN.
        public var tokensRefused: UInt64 = 0
        /// Clients that were admitted here and refused by who asked, with CONNECTION_REFUSED.
        public var refusals: UInt64 = 0
        /// Datagrams that deserve no answer.
        public var ignored: UInt64 = 0
        /// Datagrams that were not answered because too many like them came.
        public var suppressed: UInt64 = 0
    }

    /// Octets of the connection IDs that we hand out: all have as many (RFC 9000 section 10.3.2).
    public let idLength: Int
    /// Whether every client has to prove its address by a Retry before it costs us anything.
    public var requiresRetry: Bool
    /// Counts since the beginning.
    public private(set) var counters = Counters()

    private let tokens: AddressTokens
    private let resetKey: StatelessResetKey
    private var random: SeededRandom
    // A budget for each kind of answer, asked before the answer costs anything.
    private var retries: AnswerBudget
    private var versionNegotiations: AnswerBudget
    private var resets: AnswerBudget
    private var refusals: AnswerBudget

    /// The least a client's first destination ID may have (RFC 9000 section 7.2).
    private static let shortestFirstID = 8

    /// - Parameters:
    ///   - resetKey: kept from an earlier run, so that its connections learn of their end; nil makes one.
    ///   - tokenSecret: kept from an earlier run, so that its tokens are known; nil makes one. At least 16 octets.
    ///   - answersPerSecond: of each kind, a second, beyond what each network may have of them in any case.
    ///   - wallClock: the time of day at `now`, since 1970, by which a token's age is told after a restart.
    public init(
        idLength: Int = 8, requiresRetry: Bool = false, resetKey: StatelessResetKey? = nil, tokenSecret: [UInt8]? = nil,
        answersPerSecond: Int = 1000, wallClock: Duration = .zero, random: SeededRandom, at now: Instant
    ) {
        precondition((1...ConnectionID.maxLength).contains(idLength))
        self.idLength = idLength
        self.requiresRetry = requiresRetry
        self.random = random
        self.resetKey = resetKey ?? StatelessResetKey(from: &self.random)
        retries = AnswerBudget(.retry, common: answersPerSecond, random: &self.random)
        versionNegotiations = AnswerBudget(.others, common: answersPerSecond, random: &self.random)
        resets = AnswerBudget(.others, common: answersPerSecond, random: &self.random)
        refusals = AnswerBudget(.others, common: answersPerSecond, random: &self.random)
        tokens = AddressTokens(
            secret: tokenSecret, wallClock: wallClock, random: SeededRandom(from: &self.random), at: now)
    }

    /// A new connection ID of ours with its stateless reset token. It is drawn at random: it tells nothing, and of 2^64 none
    /// comes twice, on one connection or on several that share the key (RFC 9000 sections 5.1 and 10.3.2).
    public func newConnectionID() -> (id: ConnectionID, resetToken: [UInt8]) {
        let id = ConnectionID(random.octets(idLength))!
        return (id, resetKey.token(for: id))
    }

    /// A token for a NEW_TOKEN frame to `client`.
    public func newToken(client: IPAddress, at now: Instant) -> [UInt8] { tokens.newToken(client: client, at: now) }

    /// Judges a datagram whose destination ID leads to no connection. It is answered once at the most, whatever packets it holds
    /// (RFC 9000 sections 17.2.1 and 17.2.5.1).
    public func judge(_ datagram: Span<UInt8>, from address: SocketAddress, at now: Instant) -> Decision {
        guard let header = PacketHeader.parse(datagram, at: 0, shortIDLength: idLength) else {
            // An unknown version may have IDs that version 1 has no room for.
            return versionNegotiation(datagram, to: address, at: now)
        }
        switch header.kind {
        case .unknownVersion: return versionNegotiation(datagram, to: address, at: now)
        case .oneRTT: return reset(header.destination, answering: datagram.count, to: address, at: now)
        case .initial: break
        default: return ignore()
        }
        guard datagram.count >= 1200, header.destination.count >= Self.shortestFirstID else { return ignore() }
        var client = Client(
            address: address, source: header.source, destination: header.destination,
            originalDestination: header.destination, retrySource: nil, isValidated: false)
        if !header.token.isEmpty {
            switch tokens.check(datagram.extracting(header.token), client: address, at: now) {
            case .retry(let originalDestination, let retrySource):
                // The client must have taken the ID from the Retry.
                guard retrySource == header.destination else { return refuseToken(client, at: now) }
                client.originalDestination = originalDestination
                client.retrySource = retrySource
                client.isValidated = true
            case .validated: client.isValidated = true
            case .refused: return refuseToken(client, at: now)
            case .unknown: break
            }
        }
        if requiresRetry, !client.isValidated { return retry(client, at: now) }
        counters.admitted += 1
        return .admit(client)
    }

    private func ignore() -> Decision {
        counters.ignored += 1
        return .ignore
    }

    private func suppress() -> Decision {
        counters.suppressed += 1
        return .ignore
    }

    private func versionNegotiation(_ datagram: Span<UInt8>, to address: SocketAddress, at now: Instant) -> Decision {
        guard let response = VersionNegotiation.response(to: datagram, random: &random) else { return ignore() }
        guard versionNegotiations.take(address.address, at: now) else { return suppress() }
        counters.versionNegotiations += 1
        return .reply(response)
    }

    private func reset(
        _ id: ConnectionID, answering count: Int, to address: SocketAddress, at now: Instant
    ) -> Decision {
        guard StatelessReset.answers(count) else { return ignore() }
        guard resets.take(address.address, at: now) else { return suppress() }
        guard
            let packet = StatelessReset.packet(answering: count, token: resetKey.token(for: id), random: &random)
        else { return ignore() }
        counters.resets += 1
        return .reply(packet)
    }

    private func retry(_ client: Client, at now: Instant) -> Decision {
        guard retries.take(client.address.address, at: now) else { return suppress() }
        // At least as long as a client's own first ID must be, so that it may be used as one.
        var source = client.destination
        // RFC 9000 section 17.2.5.1: another than the client's own.
        while source == client.destination {
            source = ConnectionID(random.octets(max(idLength, Self.shortestFirstID)))!
        }
        let token = tokens.retryToken(
            client: client.address, originalDestination: client.destination, retrySource: source, at: now)
        counters.retries += 1
        return .reply(
            Retry.packet(
                destination: client.source, source: source, originalDestination: client.destination, token: token))
    }

    /// Closes at once with INVALID_TOKEN (RFC 9000 sections 8.1.2 and 8.1.3).
    private func refuseToken(_ client: Client, at now: Instant) -> Decision {
        guard refusals.take(client.address.address, at: now) else { return suppress() }
        counters.tokensRefused += 1
        return .reply(Self.refusal(of: client, .invalidToken, reason: ""))
    }

    /// Octets of the longest reason that a refusal tells; the rest is left out.
    public static let longestReason = 64

    /// The packet that tells a client, which `judge` has admitted, that it gets no connection: CONNECTION_REFUSED (RFC 9000
    /// sections 5.2.2 and 20.1) in an Initial packet, far smaller than the one that it answers. Nothing is remembered of it.
    ///
    /// `reason`: what the CONNECTION_CLOSE frame says in words, for the person at the other end.
    /// - Returns: nil when too many have been refused to be told so.
    public func refusal(of client: Client, reason: String, at now: Instant) -> [UInt8]? {
        guard refusals.take(client.address.address, at: now) else {
            counters.suppressed += 1
            return nil
        }
        counters.refusals += 1
        return Self.refusal(of: client, .connectionRefused, reason: reason)
    }

    private static func refusal(of client: Client, _ code: TransportError.Code, reason: String) -> [UInt8] {
        let reason = Array(reason.utf8.prefix(longestReason))
        var numberOffset = 0
        var packet = [UInt8].written(capacity: 120 + longestReason) { writer in
            writer.uint8(0xc0)
            writer.uint32(PacketHeader.version1)
            for id in [client.source, client.destination] {
                writer.uint8(UInt8(id.count))
                writer.octets(id.octets.span)
            }
            writer.varint(0)
            // Packet number, a CONNECTION_CLOSE frame (RFC 9000 section 19.19: type, code, frame type, reason), and the tag.
            let frame = 1 + Varint.length(code.rawValue) + 1 + Varint.length(UInt64(reason.count)) + reason.count
            writer.varint(UInt64(1 + frame + CipherSuite.tagLength))
            numberOffset = writer.offset
            writer.uint8(0)
            writer.uint8(0x1c)
            writer.varint(code.rawValue)
            writer.varint(0)
            writer.varint(UInt64(reason.count))
            writer.octets(reason.span)
            writer.zeros(CipherSuite.tagLength)
        }
        let plan = PacketPlan(
            level: .initial, start: 0, packetNumberOffset: numberOffset, packetNumberLength: 1, end: packet.count,
            packetNumber: 0)
        var span = packet.mutableSpan
        InitialSecrets.keys(for: .server, destination: client.destination).sealing.seal(&span, plan)
        return packet
    }
}
