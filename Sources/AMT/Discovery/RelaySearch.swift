import Wire

// Which relay a gateway uses (RFC 8777 section 3), as a value: from the source of a channel to a relay that answers, and
// to another one when it fails.
//
//     start ──> nextQuestion ──> names are looked up ──> answered ──┐
//     nextProbe ──> Relay Discoveries are sent ──> datagramReceived ┴──> nextEvent: found
//     relayJoined, delivered, relayFailed: how the gateway fares there ──> nextEvent: left, then found again
//
// Candidates are tried in the order of preference, each a moment after the one before, and the first that answers wins
// (Happy Eyeballs, section 3.2). Only Relay Discoveries are sent here: they leave no state at relays, whereas some
// relays remember the port of the first Request. Relays that failed are held down, which puts them behind all others.

/// How relays are searched for.
public struct RelaySearchConfiguration: Sendable {
    /// In order of preference.
    public var ways: [RelayWay] = RelayWay.standardOrder
    /// Domains of the local network, for `serviceDiscovery`.
    public var domains: [DomainName] = []
    /// Between the first attempts at two candidates.
    public var attemptDelay: Duration = .milliseconds(250)
    /// How long answers to questions are waited for before the candidates known so far are tried
    /// (RFC 8777 section 3.5).
    public var resolutionDelay: Duration = .milliseconds(500)
    /// Between two Relay Discoveries to one candidate.
    public var probeInterval: Duration = .seconds(1)
    /// Relay Discoveries to one candidate before it has failed.
    public var probes = 3
    /// Unanswered Requests after which a relay has failed.
    public var requestAttempts = 2
    /// How long a relay that failed is held down, at least and at most (RFC 8777 section 3.3.4).
    public var holdDown: ClosedRange<Duration> = .seconds(180) ... .seconds(600)
    /// The same for a relay that takes no new gateways (section 3.3.5).
    public var limitedHoldDown: Duration = .seconds(600)
    /// How long no traffic is tolerated, at least and at most (section 3.3.4); grows from search to search.
    public var absence: ClosedRange<Duration> = .seconds(4) ... .seconds(120)
    /// Between two rounds that found nothing, at least and at most.
    public var restart: ClosedRange<Duration> = .seconds(1) ... .seconds(120)

    /// The figures of RFC 8777, where it has some.
    public init() {}
}

/// Why a relay is left.
public enum RelayFailure: String, Hashable, Sendable {
    /// Relay Discoveries or Requests were not answered.
    case noAnswer = "it does not answer"
    /// The network says that nobody is there.
    case unreachable = "it cannot be reached"
    /// It was joined, but no data has come (RFC 8777 section 3.3.4).
    case noTraffic = "no traffic comes from it"
    /// Its Query had the L flag (RFC 7450 section 5.2.3.5.4, RFC 8777 section 3.3.5).
    case limited = "it takes no new gateways"
}

/// What a search tells.
public enum RelaySearchEvent: Hashable, Sendable {
    /// Use this relay from now on; Requests go there.
    case found(SocketAddress)
    /// The relay in use is not good; another one is searched for.
    case failing(SocketAddress, RelayFailure)
    /// Nobody answers; the search begins anew after this time.
    case nothing(retryAfter: Duration)
}

/// The search for a relay of one source; see the essay at the top of this file.
public struct RelaySearch: Sendable {
    /// Candidates of a round, and questions.
    static let candidateLimit = 32
    static let questionLimit = 32
    static let holdLimit = 64
    /// Questions in `questionWindow` (RFC 8777 section 3.4).
    static let questionsPerWindow = 10
    static let questionWindow = Duration.milliseconds(100)

    private enum Attempt {
        case waiting
        case probing(nonce: UInt32, sent: Int, nextAt: Instant)
        case failed

        var isWaiting: Bool { if case .waiting = self { true } else { false } }
        var hasFailed: Bool { if case .failed = self { true } else { false } }
    }

    /// What an answer is for.
    private enum Purpose {
        case instances(way: Int)
        case service(way: Int, precedence: Int)
        case records(way: Int)
        case addresses(way: Int, precedence: Int, port: UInt16, isDiscoveryOptional: Bool)
    }

    private struct Asked {
        var question: DNSQuestion
        var purpose: Purpose
        var isSent = false
    }

    /// How relays are searched for.
    public let configuration: RelaySearchConfiguration
    /// The source of the channel; nil: any source.
    public let source: IPAddress?
    /// The relay in use, once one was found.
    public private(set) var relay: SocketAddress?

    private var candidates: [(candidate: RelayCandidate, attempt: Attempt)] = []
    private var questions: [Int: Asked] = [:]
    private var nextNumber = 0
    private var questionsOfRound = 0
    /// When the last questions were handed out, `questionsPerWindow` at most.
    private var askedAt: [Instant] = []
    private var isSearching = false
    /// Before this nobody is tried: answers to questions may come.
    private var patientUntil = Instant.distantFuture
    private var nextAttemptAt = Instant.distantFuture
    private var restartAt = Instant.distantFuture
    private var emptyRounds = 0
    /// The candidate by which the relay in use was found.
    private var origin: SocketAddress?
    private var absentAt = Instant.distantFuture
    private var absences = 0
    private var delivered: UInt64 = 0
    private var holdDowns: [(address: SocketAddress, until: Instant)] = []
    private var probes: [(bytes: [UInt8], to: SocketAddress)] = []
    private var events: [RelaySearchEvent] = []
    private var now = Instant(nanoseconds: 0)
    private var random: SeededRandom

    /// `source`: the source of the channel; nil for any source, of which nothing can be looked up.
    public init(source: IPAddress?, configuration: RelaySearchConfiguration, seed: SeededRandom) {
        self.source = source
        self.configuration = configuration
        random = seed
    }

    // MARK: a round

    /// Begins to search.
    public mutating func start(at now: Instant) {
        self.now = now
        beginRound()
    }

    private mutating func beginRound() {
        isSearching = true
        restartAt = .distantFuture
        candidates = []
        questions = [:]
        probes = []
        questionsOfRound = 0
        holdDowns.removeAll { $0.until <= now }
        for (index, way) in configuration.ways.enumerated() {
            switch way {
            case .given(let address): add(address, way: index, precedence: 0)
            case .anycast:
                for address in RelayWay.anycastAddresses {
                    add(SocketAddress(address, port: relayPort), way: index, precedence: 0)
                }
            case .serviceDiscovery:
                for domain in configuration.domains {
                    guard let name = Self.serviceName?.below(domain) else { continue }
                    ask(DNSQuestion(name, .ptr), .instances(way: index))
                }
            case .sourceRecords:
                guard let source else { continue }
                ask(DNSQuestion(DomainName(reverseOf: source), .amtRelay), .records(way: index))
            }
        }
        patientUntil = now + configuration.resolutionDelay
        nextAttemptAt = now
        advance()
    }

    private static let serviceName = DomainName("_amt._udp")

    private mutating func add(
        _ address: SocketAddress, isDiscoveryOptional: Bool = false, way: Int, precedence: Int
    ) {
        guard address.address.canBeRelay, address.port != 0, candidates.count < Self.candidateLimit else { return }
        let candidate = RelayCandidate(
            address, isDiscoveryOptional: isDiscoveryOptional, way: way, precedence: precedence, tie: random.next())
        if let index = candidates.firstIndex(where: { $0.candidate.address == address }) {
            // Named twice: the better name counts.
            guard candidate.isPreferred(to: candidates[index].candidate) else { return }
            candidates[index].candidate = candidate
        } else {
            candidates.append((candidate, .waiting))
        }
    }

    private mutating func ask(_ question: DNSQuestion, _ purpose: Purpose) {
        guard questionsOfRound < Self.questionLimit else { return }
        questionsOfRound += 1
        questions[nextNumber] = Asked(question: question, purpose: purpose)
        nextNumber += 1
    }

    private mutating func askAddresses(
        of name: DomainName, way: Int, precedence: Int, port: UInt16, isDiscoveryOptional: Bool
    ) {
        for type in [DNSType.aaaa, .a] {
            ask(
                DNSQuestion(name, type),
                .addresses(way: way, precedence: precedence, port: port, isDiscoveryOptional: isDiscoveryOptional))
        }
    }

    // MARK: questions

    /// The next question to be looked up, with the number that its answer is told by.
    public mutating func nextQuestion() -> (number: Int, question: DNSQuestion)? {
        guard let number = questions.filter({ !$0.value.isSent }).keys.min() else { return nil }
        if askedAt.count == Self.questionsPerWindow {
            guard now - askedAt[0] >= Self.questionWindow else { return nil }
            askedAt.removeFirst()
        }
        askedAt.append(now)
        questions[number]?.isSent = true
        return questions[number].map { (number, $0.question) }
    }

    /// Takes what was found out about the question with this number. One that is not asked any more changes nothing.
    public mutating func answered(_ number: Int, _ outcome: LookupOutcome, at now: Instant) {
        self.now = now
        guard let asked = questions.removeValue(forKey: number) else { return }
        if case .records(let records) = outcome { take(records, asked.purpose) }
        advance()
    }

    private mutating func take(_ records: [DNSData], _ purpose: Purpose) {
        switch purpose {
        case .instances(let way):
            for case .pointer(let instance) in records {
                ask(DNSQuestion(instance, .srv), .service(way: way, precedence: 0))
            }
        case .service(let way, let base):
            let services = records.compactMap { if case .service(let service) = $0 { service } else { nil } }
            for (index, service) in services.ordered(by: &random).enumerated() {
                askAddresses(
                    of: service.target, way: way, precedence: base + index, port: service.port,
                    isDiscoveryOptional: false)
            }
        case .records(let way):
            let relays = records.compactMap { if case .amtRelay(let relay) = $0 { relay } else { nil } }
            for record in relays.usable {
                switch record.relay {
                case .none: break
                case .address(let address):
                    add(
                        SocketAddress(address, port: relayPort), isDiscoveryOptional: record.isDiscoveryOptional,
                        way: way, precedence: Int(record.precedence))
                case .name(let name):
                    askAddresses(
                        of: name, way: way, precedence: Int(record.precedence), port: relayPort,
                        isDiscoveryOptional: record.isDiscoveryOptional)
                }
            }
        case .addresses(let way, let precedence, let port, let isDiscoveryOptional):
            for case .address(let address) in records {
                add(
                    SocketAddress(address, port: port), isDiscoveryOptional: isDiscoveryOptional, way: way,
                    precedence: precedence)
            }
        }
    }

    // MARK: attempts

    /// Until when an address is held down; nil when it is not.
    private func heldUntil(_ address: SocketAddress) -> Instant? {
        for held in holdDowns where held.address == address && held.until > now { return held.until }
        return nil
    }

    private func isHeld(_ address: SocketAddress) -> Bool { heldUntil(address) != nil }

    /// The candidates in the order in which they are tried.
    public var order: [RelayCandidate] {
        let ordered = candidates.map(\.candidate).sorted { $0.isPreferred(to: $1) }
        return ordered.filter { !isHeld($0.address) } + ordered.filter { isHeld($0.address) }
    }

    /// Tries whoever is due, and ends the round when nobody is left.
    private mutating func advance() {
        guard isSearching else { return }
        for index in candidates.indices {
            guard case .probing(let nonce, let sent, let nextAt) = candidates[index].attempt, nextAt <= now else {
                continue
            }
            let candidate = candidates[index].candidate
            // Some relays take Requests only; their records say so.
            if candidate.isDiscoveryOptional { return choose(candidate.address, by: candidate.address) }
            if sent < configuration.probes {
                probe(index, nonce: nonce, sent: sent)
            } else {
                candidates[index].attempt = .failed
                nextAttemptAt = min(nextAttemptAt, now)
            }
        }
        if questions.isEmpty || patientUntil <= now, nextAttemptAt <= now {
            let waiting = order.first { candidate in
                candidates.contains { $0.candidate == candidate && $0.attempt.isWaiting }
            }
            if let index = candidates.firstIndex(where: { $0.candidate == waiting }) {
                probe(index, nonce: UInt32(truncatingIfNeeded: random.next()) | 1, sent: 0)
                nextAttemptAt = now + configuration.attemptDelay
            }
        }
        if questions.isEmpty, candidates.allSatisfy({ $0.attempt.hasFailed }) { endRound() }
    }

    private mutating func probe(_ index: Int, nonce: UInt32, sent: Int) {
        candidates[index].attempt = .probing(nonce: nonce, sent: sent + 1, nextAt: now + configuration.probeInterval)
        probes.append((Message.discovery(nonce: nonce).bytes, candidates[index].candidate.address))
    }

    /// The next Relay Discovery to send.
    public mutating func nextProbe() -> (bytes: [UInt8], to: SocketAddress)? {
        probes.isEmpty ? nil : probes.removeFirst()
    }

    /// Takes what came in answer to a Relay Discovery: only what the candidate that was asked says with the nonce that
    /// it was asked with counts.
    public mutating func datagramReceived(_ bytes: Span<UInt8>, from sender: SocketAddress, at now: Instant) {
        self.now = now
        guard isSearching, case .advertisement(let nonce, let address) = Message(bytes), address.canBeRelay,
            address.isIPv4 == sender.address.isIPv4,
            let index = candidates.firstIndex(where: { $0.candidate.address == sender }),
            case .probing(nonce, _, _) = candidates[index].attempt
        else { return }
        let found = SocketAddress(address, port: sender.port)
        // A discovery address may lead to a relay that has failed before: let others have their turn.
        if let until = heldUntil(found), !isHeld(sender) {
            hold(sender, until: until)
            if candidates.contains(where: { !$0.attempt.hasFailed && !isHeld($0.candidate.address) }) {
                candidates[index].attempt = .waiting
                return advance()
            }
        }
        choose(found, by: sender)
    }

    /// The network says that a Relay Discovery did not arrive: the next candidate has its turn at once. This one is
    /// given up only if the error quotes the nonce that it was asked with, since others may be forged.
    public mutating func noticeReceived(_ notice: GatewayNotice, at now: Instant) {
        self.now = now
        guard isSearching, notice.kind != .tooLarge,
            let index = candidates.firstIndex(where: { $0.candidate.address == notice.destination }),
            case .probing(let nonce, _, _) = candidates[index].attempt
        else { return }
        if let quoted = notice.quotedNonce {
            guard quoted.nonce == nonce else { return }
            candidates[index].attempt = .failed
        }
        nextAttemptAt = min(nextAttemptAt, now)
        advance()
    }

    private mutating func choose(_ found: SocketAddress, by sender: SocketAddress) {
        isSearching = false
        emptyRounds = 0
        probes = []
        questions = [:]
        nextAttemptAt = .distantFuture
        let isNew = relay != found
        relay = found
        origin = sender
        if isNew {
            absentAt = .distantFuture
        } else {
            // There is no better one: its traffic is waited for again.
            waitForTraffic()
        }
        events.append(.found(found))
    }

    private mutating func endRound() {
        isSearching = false
        let longest = min(
            configuration.restart.lowerBound * (1 << min(emptyRounds, 16)), configuration.restart.upperBound)
        emptyRounds += 1
        let wait = between(configuration.restart.lowerBound, longest)
        restartAt = now + wait
        events.append(.nothing(retryAfter: wait))
    }

    private mutating func between(_ low: Duration, _ high: Duration) -> Duration {
        let span = UInt64(max(0, (high - low).nanoseconds))
        return low + .nanoseconds(Int64(random.next() % (span + 1)))
    }

    // MARK: how it goes

    /// The relay answered a Request and took what is wanted: packets may be expected.
    public mutating func relayJoined(at now: Instant) {
        self.now = now
        if relay != nil, absentAt == .distantFuture { waitForTraffic() }
    }

    /// `total` packets have come in all. Called now and then, not with every packet.
    public mutating func delivered(_ total: UInt64, at now: Instant) {
        self.now = now
        guard total != delivered else { return }
        delivered = total
        absences = 0
        if relay != nil { waitForTraffic() }
    }

    /// A Request was not answered, for the n-th time in a row.
    public mutating func noAnswer(attempt: Int, at now: Instant) {
        if attempt >= configuration.requestAttempts { relayFailed(.noAnswer, at: now) }
    }

    /// The relay in use is of no use. It is kept until another one was found.
    public mutating func relayFailed(_ failure: RelayFailure, at now: Instant) {
        self.now = now
        guard let relay, !isSearching, restartAt == .distantFuture else { return }
        let wait =
            failure == .limited
            ? configuration.limitedHoldDown
            : between(configuration.holdDown.lowerBound, configuration.holdDown.upperBound)
        for address in Set([relay, origin ?? relay]) { hold(address, until: now + wait) }
        absentAt = .distantFuture
        events.append(.failing(relay, failure))
        beginRound()
    }

    private mutating func hold(_ address: SocketAddress, until end: Instant) {
        holdDowns.removeAll { $0.address == address }
        // The one that has been held down longest may try again.
        if holdDowns.count == Self.holdLimit { holdDowns.removeFirst() }
        holdDowns.append((address, end))
    }

    private mutating func waitForTraffic() {
        let longest = min(configuration.absence.lowerBound * (2 << min(absences, 16)), configuration.absence.upperBound)
        absentAt = now + between(configuration.absence.lowerBound, longest)
    }

    // MARK: time

    /// When `timerFired` is due.
    public var nextDeadline: Instant {
        guard isSearching else { return min(restartAt, absentAt) }
        var next = Instant.distantFuture
        for case .probing(_, _, let at) in candidates.map(\.attempt) { next = min(next, at) }
        if candidates.contains(where: { $0.attempt.isWaiting }) {
            next = min(next, questions.isEmpty ? nextAttemptAt : max(nextAttemptAt, patientUntil))
        }
        if questions.contains(where: { !$0.value.isSent }), let first = askedAt.first {
            next = min(next, first + Self.questionWindow)
        }
        return next
    }

    /// Goes on to the next candidate, the next round, or another relay, whichever is due.
    public mutating func timerFired(at now: Instant) {
        self.now = now
        if isSearching {
            advance()
        } else if restartAt <= now {
            beginRound()
        } else if absentAt <= now {
            absences += 1
            relayFailed(.noTraffic, at: now)
        }
    }

    /// What happened, oldest first; nil when all was told.
    public mutating func nextEvent() -> RelaySearchEvent? { events.isEmpty ? nil : events.removeFirst() }
}
