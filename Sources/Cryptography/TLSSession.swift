import CShims
import QUIC
import Wire

/// One TLS 1.3 handshake as QUIC uses it (RFC 9001 section 4): handshake octets per level in, handshake octets,
/// secrets and tickets out. It holds no socket and no clock.
///
/// After `start` and after each `receive`, take `nextOutput` until it is nil; the order matters, because a secret
/// applies to the handshake octets that follow it.
///
/// OpenSSL 3.0 tells a client its handshake secret for writing with the server's whole flight; who cannot wait for that
/// calls `announceWriteSecret`.
@safe public final class TLSSession {
    /// What a traffic secret is for.
    public enum Direction: Sendable, Equatable {
        /// Opening what the peer seals.
        case read
        /// Sealing what we send.
        case write
    }

    /// What the handshake brought about, in order.
    public enum Output: Sendable, Equatable {
        /// Octets to send in CRYPTO frames of this level.
        case handshake(ProtectionLevel, [UInt8])
        /// A traffic secret, in force from here on.
        case secret(ProtectionLevel, Direction, CipherSuite, [UInt8])
        /// The peer's transport parameters as it sent them. A server can trust them once the handshake is complete.
        case transportParameters([UInt8])
        /// Both sides have proven the handshake (section 4.1.1).
        case completed
        /// Client: something to resume with on another connection. It holds secrets.
        case ticket([UInt8])
    }

    /// Messages after the handshake that are longer are refused.
    private static let longestMessage = 65536

    /// Our end of the handshake.
    public let role: Role
    private let context: TLSContext
    private var tls: OpaquePointer?
    private var outputs: [Output] = []
    private var taken = 0
    private var failure: TransportError?
    private var readLevel = ProtectionLevel.initial
    private var writeLevel = ProtectionLevel.initial
    private var records: RecordSealer?
    private var started = false
    private var postHandshake = MessageFilter()
    /// Client: the hellos of both ends, until the secret that comes from them is announced.
    private var hellos: [UInt8] = []
    /// Client: the handshake secret for reading, and its suite, until the one for writing is announced.
    private var readSecret: (suite: CipherSuite, octets: [UInt8])?
    /// Client: what has come of EncryptedExtensions, the first message of the server's Handshake packets; nil after it.
    private var extensions: [UInt8]? = []

    /// The peer's transport parameters, as soon as they have been read.
    public private(set) var peerTransportParameters: [UInt8]?
    /// The agreed application protocol, once complete.
    public private(set) var alpn: String?
    /// Whether the handshake resumed an earlier session, once complete.
    public private(set) var isResumed = false
    /// Whether the handshake is complete at this end (RFC 9001 section 4.1.1).
    public private(set) var isComplete = false

    /// - Parameters:
    ///   - context: whose role the session has.
    ///   - serverName: client: the host name or IP address that the certificate must be for.
    ///   - transportParameters: ours, encoded. Without any octets the extension is left out, which no peer accepts.
    ///   - resume: client: a ticket of an earlier session with this server. One that is of no use is ignored.
    public init(
        context: TLSContext, serverName: String? = nil, transportParameters: [UInt8], resume: [UInt8]? = nil
    ) throws(TLSConfigurationError) {
        self.context = context
        role = context.role
        let address = serverName.flatMap { IPAddress($0) }
        let name = address.map { "\($0)" } ?? serverName
        let ticket = resume ?? []
        let owner = unsafe Unmanaged.passUnretained(self).toOpaque()
        let made = unsafe Self.withOptional(name) { name in
            unsafe fc_tls_new(
                context.context, owner, name, address == nil ? 0 : 1, transportParameters, transportParameters.count,
                ticket, ticket.count)
        }
        guard let made = unsafe made else {
            throw TLSConfigurationError("TLS cannot use the server name \"\(serverName ?? "")\"")
        }
        unsafe tls = made
    }

    deinit { if let tls = unsafe tls { unsafe fc_tls_free(tls) } }

    /// Begins: a client then has its first message to send.
    public func start() throws(TransportError) {
        guard !started else { return }
        started = true
        try advance()
    }

    /// Takes the next octets of the peer's CRYPTO stream at `level`. Throws a CRYPTO_ERROR with the TLS alert, or
    /// another reason to close the connection; every call after that throws the same.
    public func receive(level: ProtectionLevel, _ bytes: Span<UInt8>) throws(TransportError) {
        if let failure { throw failure }
        guard bytes.count > 0 else { return }
        guard level == readLevel else {
            // RFC 9001 section 4.1.3.
            throw fail(TransportError(.protocolViolation, "TLS octets at level \(level) instead of \(readLevel)"))
        }
        if level == .application { try filter(bytes) }
        if level == .initial, role == .client { hellos.append(bytes) }
        if level == .handshake, role == .client { try judgeProtocol(bytes) }
        var next = 0
        while next < bytes.count {
            let count = min(bytes.count - next, RecordSealer.longest)
            let piece = bytes.extracting(next..<(next + count))
            let record = records?.record(piece) ?? plainRecord(piece)
            guard unsafe fc_tls_receive(tls, record, record.count) == 0 else {
                throw fail(TransportError(.internalError, "no memory for TLS records"))
            }
            next += count
        }
        try advance()
    }

    /// Client: announces the handshake secret for writing, if the server's hello has come and OpenSSL keeps the secret to
    /// itself still. What is announced is right: the server's secret, which OpenSSL has told, comes out of the same steps.
    func announceWriteSecret() {
        guard failure == nil, writeLevel == .initial, let (suite, server) = readSecret else { return }
        readSecret = nil
        var shared = [UInt8](repeating: 0, count: Int(FC_TLS_SHARED))
        var psk = [UInt8](repeating: 0, count: Int(FC_TLS_PSK))
        var sharedLength = 0
        var pskLength = 0
        guard unsafe fc_tls_agreed(tls, &shared, &sharedLength, &psk, &pskLength) == 0,
            let secrets = HandshakeSecrets(
                suite, shared: Array(shared.prefix(sharedLength)), psk: Array(psk.prefix(pskLength)), hellos: hellos),
            secrets.server == server
        else { return }
        secretReady(level: .handshake, fromServer: false, suite: suite, secrets.client)
    }

    /// The next thing to act on, nil when there is none for now.
    public func nextOutput() -> Output? {
        guard taken < outputs.count else {
            outputs.removeAll(keepingCapacity: true)
            taken = 0
            return nil
        }
        defer { taken += 1 }
        return outputs[taken]
    }

    private func advance() throws(TransportError) {
        if let failure { throw failure }
        let levelBefore = readLevel
        let outcome = unsafe fc_tls_advance(tls)
        if let failure { throw failure }
        guard outcome >= 0 else {
            var text = [CChar](repeating: 0, count: Int(FC_TLS_TEXT))
            unsafe fc_tls_reason(tls, &text)
            if TLSContext.string(text).contains("record boundary") {
                // RFC 9001 section 4.1.3: octets follow the last message of a level.
                throw fail(
                    TransportError(.protocolViolation, "TLS octets of level \(levelBefore) that nobody waits for"))
            }
            // Every alert ends the connection (RFC 9001 section 4.8).
            throw fail(TransportError(.crypto(alert: unsafe fc_tls_alert(tls)), "TLS: \(TLSContext.string(text))"))
        }
        guard !isComplete else { return }
        // Checked here for resumed sessions too (RFC 9001 sections 8.1 and 8.2). The server's parameters and its choice of a
        // protocol come in one message, so that a client judges the one as soon as it has the other.
        guard outcome == 1 || role == .client && peerTransportParameters != nil else { return }
        guard peerTransportParameters != nil else {
            throw fail(TransportError(.crypto(alert: Alert.missingExtension), "TLS: no transport parameters"))
        }
        var count = 0
        let name = unsafe fc_tls_alpn(tls, &count)
        let chosen = unsafe String(decoding: UnsafeBufferPointer(start: name, count: count), as: UTF8.self)
        try expectOffered(chosen)
        guard outcome == 1 else { return }
        alpn = chosen
        isResumed = unsafe fc_tls_resumed(tls) != 0
        isComplete = true
        outputs.append(.completed)
    }

    private func fail(_ error: TransportError) -> TransportError {
        if failure == nil { failure = error }
        return failure ?? error
    }

    /// OpenSSL would take a TLS KeyUpdate; in QUIC that is an error (RFC 9001 section 6), and all that may follow a
    /// handshake is a ticket for the client.
    private func filter(_ bytes: Span<UInt8>) throws(TransportError) {
        for index in bytes.indices {
            let type = postHandshake.type(after: bytes[index])
            if let early = postHandshake.earlyData, early != .max {
                // RFC 9001 section 4.6.1.
                throw fail(TransportError(.protocolViolation, "a ticket with early_data of \(early) octets"))
            }
            guard let type else { continue }
            guard role == .client, type == MessageFilter.newSessionTicket else {
                // RFC 9001 section 4.4.
                let isRequest = role == .client && type == MessageFilter.certificateRequest
                throw fail(
                    TransportError(
                        isRequest ? .protocolViolation : .crypto(alert: Alert.unexpectedMessage),
                        "TLS message \(type) after the handshake"))
            }
            guard postHandshake.length <= Self.longestMessage else {
                throw fail(TransportError(.cryptoBufferExceeded, "ticket of \(postHandshake.length) octets"))
            }
        }
    }

    /// A server that names a protocol which was not offered gets the alert that QUIC has for it (RFC 9001 section 8.1), where
    /// OpenSSL would say no more than that an extension is bad.
    private func judgeProtocol(_ bytes: Span<UInt8>) throws(TransportError) {
        guard var message = extensions else { return }
        message.append(bytes)
        var reader = ByteReader(message.span)
        guard let header = reader.uint32() else {
            extensions = message
            return
        }
        let length = Int(header & 0xff_ffff)
        guard header >> 24 == 8, length <= Self.longestMessage else {
            extensions = nil
            return
        }
        guard reader.remaining >= length else {
            extensions = message
            return
        }
        extensions = nil
        _ = reader.skip(2)
        while let type = reader.uint16(), let size = reader.uint16() {
            guard type == 16 else {
                guard reader.skip(Int(size)) else { return }
                continue
            }
            guard reader.skip(2), let count = reader.uint8(), let name = reader.array(Int(count)) else { return }
            return try expectOffered(String(decoding: name, as: UTF8.self))
        }
    }

    private func expectOffered(_ name: String) throws(TransportError) {
        guard !context.alpn.contains(name) else { return }
        throw fail(
            TransportError(
                .crypto(alert: Alert.noApplicationProtocol), "TLS: application protocol \"\(name)\" was not offered"))
    }

    /// An unprotected handshake record, with the version that RFC 8446 section 5.1 gives to either side's hello.
    private func plainRecord(_ bytes: Span<UInt8>) -> [UInt8] {
        var record: [UInt8] = [22, 3, role == .server ? 1 : 3, UInt8(bytes.count >> 8), UInt8(bytes.count & 0xff)]
        record.append(bytes)
        return record
    }

    private static func withOptional<Result>(
        _ text: String?, _ body: (UnsafePointer<CChar>?) -> Result
    ) -> Result {
        guard let text else { return body(nil) }
        return unsafe text.withCString { unsafe body($0) }
    }

    private enum Alert {
        static let unexpectedMessage: UInt8 = 10
        static let missingExtension: UInt8 = 109
        static let noApplicationProtocol: UInt8 = 120
    }

    // MARK: Called from OpenSSL

    /// What is new is sent at the highest level that has a key (RFC 9001 section 4.9).
    fileprivate func messageReady(_ bytes: [UInt8]) {
        if role == .client, writeLevel == .initial { hellos += bytes }
        if taken < outputs.count, case .handshake(writeLevel, let before)? = outputs.last {
            outputs[outputs.count - 1] = .handshake(writeLevel, before + bytes)
        } else {
            outputs.append(.handshake(writeLevel, bytes))
        }
    }

    fileprivate func secretReady(level: Int, fromServer: Bool, suite: UInt16, _ secret: [UInt8]) {
        guard let level = ProtectionLevel(rawValue: level), let suite = CipherSuite(rawValue: suite),
            secret.count == suite.secretLength
        else {
            _ = fail(TransportError(.internalError, "TLS agreed on a suite that QUIC does not use"))
            return
        }
        secretReady(level: level, fromServer: fromServer, suite: suite, secret)
    }

    private func secretReady(level: ProtectionLevel, fromServer: Bool, suite: CipherSuite, _ secret: [UInt8]) {
        let writing = fromServer == (role == .server)
        if writing {
            if level == .handshake {
                hellos = []
                readSecret = nil
                // It was announced before OpenSSL did.
                guard writeLevel < .handshake else { return }
            }
            writeLevel = level
        } else {
            if level == .handshake, role == .client { readSecret = (suite, secret) }
            readLevel = level
            records = RecordSealer(suite, secret: secret)
        }
        outputs.append(.secret(level, writing ? .write : .read, suite, secret))
    }

    fileprivate func parametersReady(_ bytes: [UInt8]) {
        // Twice when a HelloRetryRequest made the client say its hello again: the same octets, or OpenSSL refuses.
        if peerTransportParameters == nil { outputs.append(.transportParameters(bytes)) }
        peerTransportParameters = bytes
    }

    fileprivate func ticketReady(_ bytes: [UInt8]) { outputs.append(.ticket(bytes)) }

    fileprivate func keyLogged(_ line: UnsafePointer<CChar>) {
        guard let keyLog = context.keyLog else { return }
        keyLog.append(unsafe String(cString: line))
    }

    static var events: fc_tls_events {
        unsafe fc_tls_events(
            message: { owner, bytes, count in
                unsafe session(owner).messageReady(octets(bytes, count))
            },
            secret: { owner, level, fromServer, suite, bytes, count in
                unsafe session(owner).secretReady(
                    level: Int(level), fromServer: fromServer != 0, suite: suite, octets(bytes, count))
            },
            parameters: { owner, bytes, count in
                unsafe session(owner).parametersReady(octets(bytes, count))
            },
            ticket: { owner, bytes, count in
                unsafe session(owner).ticketReady(octets(bytes, count))
            },
            key_log: { owner, line in
                if let line = unsafe line { unsafe session(owner).keyLogged(line) }
            })
    }
}

/// The session that a callback is for: it is alive, because the callback runs inside a call of its own.
private func session(_ owner: UnsafeMutableRawPointer?) -> TLSSession {
    unsafe Unmanaged<TLSSession>.fromOpaque(owner!).takeUnretainedValue()
}

private func octets(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> [UInt8] {
    unsafe Array(UnsafeBufferPointer(start: bytes, count: count))
}

/// Wraps handshake octets in protected TLS records (RFC 8446 section 5.2), as the peer's TLS would have.
private struct RecordSealer {
    /// Octets of one record; the protocol allows 2^14.
    static let longest = 16000
    private static let applicationData: UInt8 = 23
    private static let handshake: UInt8 = 22

    private let cipher: PacketCipher
    private var sequence: UInt64 = 0

    init(_ suite: CipherSuite, secret: [UInt8]) {
        cipher = PacketCipher(
            suite, key: HKDF.expandLabel(suite.hash, secret: secret, "key", length: suite.keyLength),
            iv: HKDF.expandLabel(suite.hash, secret: secret, "iv", length: Int(FC_NONCE_LENGTH)), sealing: true)
    }

    mutating func record(_ bytes: Span<UInt8>) -> [UInt8] {
        let length = bytes.count + 1 + CipherSuite.tagLength
        var record = [Self.applicationData, 3, 3, UInt8(length >> 8), UInt8(length & 0xff)]
        record.append(bytes)
        record.append(Self.handshake)
        record += [UInt8](repeating: 0, count: CipherSuite.tagLength)
        // A record is a packet whose header is 5 octets and whose number is the sequence number: the nonces agree.
        let packet = InlineArray<1, fc_packet>(
            repeating: fc_packet(
                start: 0, number_offset: 1, payload_offset: 5, end: record.count, number: sequence, path: 0,
                mask: 0))
        var span = record.mutableSpan
        cipher.seal(&span, packet.span, mask: nil)
        sequence += 1
        return record
    }
}

/// Follows TLS messages through the octets that carry them.
private struct MessageFilter {
    static let newSessionTicket: UInt8 = 4
    static let certificateRequest: UInt8 = 13

    private var type: UInt8 = 0
    private var headerOctets = 0
    private(set) var length = 0
    private var body: [UInt8] = []
    /// max_early_data_size of the ticket that the last octet has completed; nil when it completed none, or one without.
    private(set) var earlyData: UInt32?

    /// Takes one octet, and returns the message's type when it completes its header.
    mutating func type(after octet: UInt8) -> UInt8? {
        earlyData = nil
        if headerOctets == 4 {
            body.append(octet)
            if body.count >= length {
                let found = Self.earlyData(in: body.span)
                self = MessageFilter()
                earlyData = found
            }
            return nil
        }
        if headerOctets == 0 { type = octet } else { length = length << 8 | Int(octet) }
        headerOctets += 1
        guard headerOctets == 4 else { return nil }
        defer { if length == 0 { self = MessageFilter() } }
        return type
    }

    /// What a NewSessionTicket's early_data extension says (RFC 8446 section 4.6.1); nil without one. A message that cannot be
    /// read is left to TLS.
    private static func earlyData(in body: Span<UInt8>) -> UInt32? {
        var reader = ByteReader(body)
        guard reader.skip(8), let nonce = reader.uint8(), reader.skip(Int(nonce)), let ticket = reader.uint16(),
            reader.skip(Int(ticket)), reader.skip(2)
        else { return nil }
        while let type = reader.uint16(), let length = reader.uint16() {
            if type == 42, length == 4 { return reader.uint32() }
            guard reader.skip(Int(length)) else { return nil }
        }
        return nil
    }
}
