import QUIC
import Testing
import Wire

@testable import Flexicast

/// Every state of a receiver against every event: the state that follows, or the error.
@Suite struct ReceiverTableTests {
    enum Event: CaseIterable {
        case announceNewer, announceStale, announceMoved, withdraw
        case key, keyStale, leave, leaveStale, joinFromSource, readyFromSource
        case heardOnce, heardSteadily, opened, openedBeforeKey, rejected
        case longSilence, asksToJoin, asksToLeave
    }

    enum Outcome: Equatable {
        case state(ReceiverState)
        case violation
    }

    static let id = World.flowID

    /// A session in `state`, and the time.
    static func session(in state: ReceiverState, seed: UInt64 = 1) -> (ReceiverSession, Instant) {
        let now = Instant(nanoseconds: 1_000_000_000)
        var configuration = ReceiverConfiguration()
        configuration.joinsByItself = state != .aware
        var session = ReceiverSession(
            isNegotiated: true, maximumPathID: 4, configuration: configuration, seed: SeededRandom(seed: seed))
        guard state != .unaware else { return (session, now) }
        announce(&session, sequence: 5)
        guard state != .aware, state != .needsKey else { return (session, now) }
        if state == .retired {
            withdraw(&session, sequence: 6)
            return (session, now)
        }
        key(&session, sequence: 3)
        guard state != .joined else { return (session, now) }
        _ = session.flowPacketOpened(id, generation: 3, packetNumber: 10, at: now)
        guard state != .listening else { return (session, now) }
        try! leaveFrame(&session, sequence: 2)
        return (session, now)
    }

    static func announce(_ session: inout ReceiverSession, sequence: UInt64, port: UInt16 = 5000) {
        var parameters = World.parameters
        parameters.port = port
        let frame = AnnounceFrame(flowID: id, sequence: sequence, parameters: parameters)
        _ = try! World.deliver(frame.encoded, to: &session)
    }

    static func withdraw(_ session: inout ReceiverSession, sequence: UInt64) {
        let frame = AnnounceFrame(flowID: id, sequence: sequence, parameters: World.parameters.withdrawn)
        _ = try! World.deliver(frame.encoded, to: &session)
    }

    static func key(_ session: inout ReceiverSession, sequence: UInt64) {
        let frame = KeyFrame(
            flowID: id, sequence: sequence, packetNumber: 10, suite: .aes128GCM,
            secret: Array(repeating: UInt8(sequence), count: 32))
        _ = try! World.deliver(frame.encoded, to: &session)
    }

    static func leaveFrame(_ session: inout ReceiverSession, sequence: UInt64) throws(TransportError) {
        let frame = StateFrame(flowID: id, sequence: sequence, action: .leave)
        _ = try World.deliver(frame.encoded, to: &session)
    }

    static func apply(_ event: Event, to session: inout ReceiverSession, at start: Instant) -> Outcome {
        let now = start + .milliseconds(10)
        do throws(TransportError) {
            switch event {
            case .announceNewer: announce(&session, sequence: 9)
            case .announceStale: announce(&session, sequence: 5, port: 9)
            case .announceMoved: announce(&session, sequence: 9, port: 5001)
            case .withdraw: withdraw(&session, sequence: 9)
            case .key:
                let frame = KeyFrame(
                    flowID: id, sequence: 8, packetNumber: 50, suite: .aes128GCM, secret: Array(repeating: 8, count: 32)
                )
                _ = try World.deliver(frame.encoded, to: &session)
            case .keyStale:
                let frame = KeyFrame(
                    flowID: id, sequence: 3, packetNumber: 10, suite: .aes128GCM, secret: Array(repeating: 3, count: 32)
                )
                _ = try World.deliver(frame.encoded, to: &session)
            case .leave: try leaveFrame(&session, sequence: 9)
            case .leaveStale:
                try leaveFrame(&session, sequence: 9)
                // A stale one must not undo what came after; here it only must not throw or move on.
                try leaveFrame(&session, sequence: 1)
            case .joinFromSource:
                _ = try World.deliver(StateFrame(flowID: id, sequence: 9, action: .join).encoded, to: &session)
            case .readyFromSource:
                _ = try World.deliver(StateFrame(flowID: id, sequence: 9, action: .ready).encoded, to: &session)
            case .heardOnce: session.flowPacketHeard(id, at: now)
            case .heardSteadily:
                for step in 0..<30 { session.flowPacketHeard(id, at: now + .milliseconds(100 * Int64(step))) }
            case .opened: _ = session.flowPacketOpened(id, generation: 3, packetNumber: 11, at: now)
            case .openedBeforeKey: _ = session.flowPacketOpened(id, generation: 3, packetNumber: 9, at: now)
            case .rejected: session.flowPacketRejected(id, at: now)
            case .longSilence: session.timerFired(at: now + .seconds(10))
            case .asksToJoin: session.join(id, at: now)
            case .asksToLeave: session.leave(id, at: now)
            }
        } catch {
            return error.code == .flexicastViolation ? .violation : .state(.unaware)
        }
        return .state(session.state(of: id))
    }

    /// Rows: events; columns: unaware, aware, needsKey, joined, listening, left, retired.
    /// u unaware, a aware, n needs key, j joined, L listening, l left, r retired, ! FC_PROTOCOL_VIOLATION.
    /// "aware" here is of a receiver that does not join by itself; "retired" is of one that does.
    static let table: [Event: String] = [
        .announceNewer: "nanjLln",
        .announceStale: "nanjLlr",
        .announceMoved: "nanjLln",
        .withdraw: "rrrrrrr",
        .key: "!!jjLlr",
        .keyStale: "!!jjLlr",
        .leave: "!allllr",
        .leaveStale: "!allllr",
        .joinFromSource: "!!!!!!!",
        .readyFromSource: "!!!!!!!",
        .heardOnce: "uanjLlr",
        .heardSteadily: "uanjLnr",
        .opened: "uanLLlr",
        .openedBeforeKey: "uanjLlr",
        .rejected: "uanjLlr",
        .longSilence: "uanlllr",
        .asksToJoin: "unnjLlr",
        .asksToLeave: "uaaaaar",
    ]

    static let columns: [ReceiverState] = [.unaware, .aware, .needsKey, .joined, .listening, .left, .retired]
    static let letters: [Character: Outcome] = [
        "u": .state(.unaware), "a": .state(.aware), "n": .state(.needsKey), "j": .state(.joined),
        "L": .state(.listening), "l": .state(.left), "r": .state(.retired), "!": .violation,
    ]

    @Test(arguments: Event.allCases)
    func everyState(event: Event) throws {
        let row = try #require(Self.table[event])
        for (state, letter) in zip(Self.columns, row) {
            var (session, now) = Self.session(in: state)
            #expect(session.state(of: Self.id) == state, "the way to \(state)")
            while session.nextAction() != nil {}
            let outcome = Self.apply(event, to: &session, at: now)
            #expect(outcome == Self.letters[letter], "\(event) in \(state)")
        }
    }
}
