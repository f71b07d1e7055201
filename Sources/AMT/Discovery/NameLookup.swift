import Wire

/// What became of a question.
public enum LookupOutcome: Hashable, Sendable {
    /// The records of the type asked for, at the name or at the end of its aliases; none when the name has none.
    case records([DNSData])
    /// No answer, or none that helps; why.
    case failed(String)
}

/// One question to the system's name servers, as a value: asks them in turn, follows aliases, and believes only answers
/// from a server that was asked, to the question that was asked.
///
/// An answer that does not fit a datagram is asked for again over TCP (RFC 7766), at the server that has it.
public struct NameLookup: Sendable {
    /// Aliases followed one after the other.
    static let aliasLimit = 8

    /// What is to be found out.
    public let question: DNSQuestion
    /// What was found out; nil until the lookup has ended.
    public private(set) var outcome: LookupOutcome?

    private let servers: [SocketAddress]
    private let timeout: Duration
    /// Queries that may still be sent.
    private var queriesLeft: Int
    private var nextServer = 0
    private var query: DNSQuery
    private var aliases = 0
    private var asked: [SocketAddress] = []
    private var outgoing: [(bytes: [UInt8], to: SocketAddress)] = []
    /// The query that waits for its connection, and what has come by the connection so far.
    private var stream: (bytes: [UInt8], to: SocketAddress)?
    private var streamed: [UInt8] = []
    /// When `timerFired` is due.
    public private(set) var nextDeadline = Instant.distantFuture
    private var random: SeededRandom

    /// - Parameters:
    ///   - question: what is asked.
    ///   - servers: in the order in which they are asked.
    ///   - timeout: how long a server is waited for.
    ///   - attempts: how often each server is asked.
    ///   - random: where the IDs of queries come from; nobody else may know it (RFC 5452).
    public init(
        _ question: DNSQuestion, servers: [SocketAddress], timeout: Duration = .seconds(2), attempts: Int = 2,
        random: SeededRandom
    ) {
        self.question = question
        self.servers = servers
        self.timeout = timeout
        self.random = random
        queriesLeft = servers.count * attempts
        query = DNSQuery(id: 0, question: question)
    }

    /// Asks the first server; without a server, the lookup has failed.
    public mutating func start(at now: Instant) {
        query.id = UInt16(truncatingIfNeeded: random.next())
        ask(at: now)
    }

    private mutating func ask(at now: Instant) {
        guard queriesLeft > 0, !servers.isEmpty else { return end(.failed("no name server answers")) }
        queriesLeft -= 1
        let server = servers[nextServer % servers.count]
        nextServer += 1
        if !asked.contains(server) { asked.append(server) }
        outgoing.append((query.bytes, server))
        stream = nil
        nextDeadline = now + timeout
    }

    private mutating func askAgainByStream(_ server: SocketAddress, at now: Instant) {
        let bytes = query.bytes
        stream = ([UInt8(bytes.count >> 8), UInt8(bytes.count & 255)] + bytes, server)
        streamed = []
        nextDeadline = now + timeout
    }

    private mutating func end(_ outcome: LookupOutcome) {
        self.outcome = outcome
        outgoing = []
        stream = nil
        nextDeadline = .distantFuture
    }

    /// The server asked last has not answered in time: the next one is asked.
    public mutating func timerFired(at now: Instant) {
        if nextDeadline <= now { ask(at: now) }
    }

    /// The next query to send.
    public mutating func nextDatagram() -> (bytes: [UInt8], to: SocketAddress)? {
        outgoing.isEmpty ? nil : outgoing.removeFirst()
    }

    /// The next query to send over a connection of its own, in place of one that may be open.
    public mutating func nextStream() -> (bytes: [UInt8], to: SocketAddress)? {
        defer { stream = nil }
        return stream
    }

    /// Handles a UDP payload from `server`. What is no answer to the question changes nothing (RFC 5452 section 9.1).
    public mutating func datagramReceived(_ bytes: Span<UInt8>, from server: SocketAddress, at now: Instant) {
        guard outcome == nil, asked.contains(server), let response = DNSResponse(bytes, to: query) else { return }
        if response.isTruncated { askAgainByStream(server, at: now) } else { take(response, at: now) }
    }

    /// The network says that a query did not reach a server: the next one is asked. Only an error that quotes the query
    /// counts: others may be forged.
    public mutating func unreachable(_ server: SocketAddress, quoted: [UInt8], at now: Instant) {
        let isOurs = quoted.count >= 12 && quoted.elementsEqual(query.bytes.prefix(quoted.count))
        guard outcome == nil, isOurs, server == lastAsked, queriesLeft > 0 else { return }
        ask(at: now)
    }

    private var lastAsked: SocketAddress? {
        nextServer > 0 && !servers.isEmpty ? servers[(nextServer - 1) % servers.count] : nil
    }

    /// Octets came by the connection: the response after two octets of length (RFC 1035 section 4.2.2).
    public mutating func streamReceived(_ octets: Span<UInt8>, at now: Instant) {
        guard outcome == nil, streamed.count <= 2 + 65_535 else { return }
        streamed.append(octets)
        guard streamed.count >= 2 else { return }
        let end = 2 + (Int(streamed[0]) << 8 | Int(streamed[1]))
        guard streamed.count >= end else { return }
        let message = Array(streamed[2..<end])
        guard let response = DNSResponse(message.span, to: query), !response.isTruncated else {
            return streamEnded(at: now)
        }
        take(response, at: now)
    }

    /// The connection came to nothing, or ended before the response had come.
    public mutating func streamEnded(at now: Instant) {
        guard outcome == nil else { return }
        ask(at: now)
    }

    private mutating func take(_ response: DNSResponse, at now: Instant) {
        switch response.code {
        case .success: takeRecords(response, at: now)
        case .noSuchName: end(.records([]))
        case .formatError where query.hasExtension:
            query.hasExtension = false
            queriesLeft += 1
            nextServer -= 1
            ask(at: now)
        default:
            guard queriesLeft == 0 else { return ask(at: now) }
            end(.failed("the name server cannot tell"))
        }
    }

    private mutating func takeRecords(_ response: DNSResponse, at now: Instant) {
        var name = query.question.name
        while true {
            let here = response.answers.filter { $0.owner == name }.map(\.data)
            let records = here.filter { $0.isOf(question.type) }
            if !records.isEmpty { return end(.records(records)) }
            guard let next = Self.alias(of: name, in: response.answers, here) else { break }
            aliases += 1
            guard aliases <= Self.aliasLimit else { return end(.failed("too many aliases")) }
            name = next
        }
        guard name != query.question.name else { return end(.records([])) }
        // The server did not follow the alias to its end.
        query = DNSQuery(
            id: UInt16(truncatingIfNeeded: random.next()), question: DNSQuestion(name, question.type),
            hasExtension: query.hasExtension)
        asked = []
        queriesLeft = max(queriesLeft, servers.count)
        nextServer = max(0, nextServer - 1)
        ask(at: now)
    }

    private static func alias(of name: DomainName, in all: [DNSResponse.Record], _ here: [DNSData]) -> DomainName? {
        for case .alias(let target) in here { return target }
        for record in all {
            if case .subtree(let target) = record.data, let next = name.replacing(record.owner, with: target) {
                return next
            }
        }
        return nil
    }
}

extension DNSData {
    func isOf(_ type: DNSType) -> Bool {
        switch (self, type) {
        case (.address(let address), .a): address.isIPv4
        case (.address(let address), .aaaa): !address.isIPv4
        case (.alias, .cname), (.subtree, .dname), (.pointer, .ptr), (.service, .srv), (.amtRelay, .amtRelay): true
        default: false
        }
    }
}
