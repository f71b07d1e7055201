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
/// An answer that does not fit a datagram counts as a failure: the record sets asked for are small.
public struct NameLookup: Sendable {
    /// Aliases followed one after the other.
    static let aliasLimit = 8

    public let question: DNSQuestion
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
    public private(set) var nextDeadline = Instant.distantFuture
    private var random: SeededRandom

    /// - Parameters:
    ///   - timeout: How long a server is waited for.
    ///   - attempts: How often each server is asked.
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
        nextDeadline = now + timeout
    }

    private mutating func end(_ outcome: LookupOutcome) {
        self.outcome = outcome
        outgoing = []
        nextDeadline = .distantFuture
    }

    public mutating func timerFired(at now: Instant) {
        if nextDeadline <= now { ask(at: now) }
    }

    /// The next query to send.
    public mutating func nextDatagram() -> (bytes: [UInt8], to: SocketAddress)? {
        outgoing.isEmpty ? nil : outgoing.removeFirst()
    }

    public mutating func datagramReceived(_ bytes: Span<UInt8>, from server: SocketAddress, at now: Instant) {
        guard outcome == nil, asked.contains(server), let response = DNSResponse(bytes, to: query) else { return }
        switch response.code {
        case .success where !response.isTruncated: take(response, at: now)
        case .noSuchName: end(.records([]))
        case .formatError where query.hasExtension:
            query.hasExtension = false
            queriesLeft += 1
            nextServer -= 1
            ask(at: now)
        default:
            guard queriesLeft == 0 else { return ask(at: now) }
            end(.failed(response.isTruncated ? "the answer is too large" : "the name server cannot tell"))
        }
    }

    private mutating func take(_ response: DNSResponse, at now: Instant) {
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
