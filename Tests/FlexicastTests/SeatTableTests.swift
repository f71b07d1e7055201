import Objects
import QUIC
import Testing
import Wire

@testable import Flexicast

/// Every state of a receiver at the source against every event: the state that follows, or the error.
@Suite struct SeatTableTests {
    enum State: CaseIterable {
        case handshaking, plain, awaiting, stated, unstated, keyed, byGroup, byCopies, left, closed
    }

    enum Event: CaseIterable {
        case connected, closed
        case positionFresh, positionTaken, positionOtherEpoch, positionTwice, positionGoingBack, positionTimeOver
        case controlEnded, controlReset, controlStopped
        case join, ready, leave, pathAckOfOurs, pathAckOfNone
        case publishOnFlow, publishOffFlow, lossRepaired, evicted, keyChange, creditZero, forget
    }

    /// Columns: the states, in their order.
    /// h handshaking, p plain and awaited, P plain and stated, q plain and unstated, a awaited, s stated, u unstated, k keyed,
    /// g member by group, c member by copies, l left, x closed, - forgotten, ! PROTOCOL_VIOLATION, 5 error 0x15,
    /// 6 error 0x16.
    static let table: [Event: String] = [
        .connected: "apasukgclx",
        .closed: "xxxxxxxxxx",
        .positionFresh: "hPssskgclx",
        .positionTaken: "hPssskgclx",
        .positionOtherEpoch: "hPssskgclx",
        .positionTwice: "hPssskgclx",
        .positionGoingBack: "h55555555x",
        .positionTimeOver: "hqusukgclx",
        .controlEnded: "h66s6kgclx",
        .controlReset: "h66666666x",
        .controlStopped: "h66666666x",
        .join: "hpkkkkkkkx",
        .ready: "hpasuggclx",
        .leave: "hpasullllx",
        .pathAckOfOurs: "hp!!!kgclx",
        .pathAckOfNone: "hp!!!!!!!x",
        .publishOnFlow: "hpasukgclx",
        .publishOffFlow: "hpasukgclx",
        .lossRepaired: "hpasukgclx",
        .evicted: "hpasuklllx",
        .keyChange: "hpasukgclx",
        .creditZero: "hpasuklllx",
        .forget: "----------",
    ]

    @Test(arguments: Event.allCases)
    func everyState(event: Event) throws {
        let row = Array(try #require(Self.table[event]))
        try #require(row.count == State.allCases.count)
        for (state, letter) in zip(State.allCases, row) {
            let (bench, receiver, witness) = Self.bench(in: state)
            #expect(Self.letter(of: receiver, bench) == Self.letters[state], "the way to \(state)")
            Self.apply(event, to: receiver, bench)
            #expect(Self.letter(of: receiver, bench) == letter, "\(event) in \(state)")
            #expect(bench.server.checkInvariants() == nil, "\(event) in \(state)")
            let isUntouched = bench.server.isMember(witness.id) && witness.link.error == nil
            #expect(isUntouched, "\(event) in \(state): the other")
        }
    }

    static let letters: [State: Character] = [
        .handshaking: "h", .plain: "p", .awaiting: "a", .stated: "s", .unstated: "u", .keyed: "k", .byGroup: "g",
        .byCopies: "c", .left: "l", .closed: "x",
    ]

    /// A receiver in `state`, and another that is a member, so that there is a flow.
    static func bench(in state: State) -> (SourceBench, SourceBench.Receiver, SourceBench.Receiver) {
        let bench = SourceBench { $0.hasGroup = state != .byCopies }
        let witness = bench.connect()
        bench.stateNewest(witness)
        bench.makeMember(witness)
        for _ in 0..<3 { bench.publish(10) }
        for packet in bench.transmit() { bench.acknowledge([packet.number...packet.number], witness) }
        let receiver = bench.accept()
        if state == .plain { receiver.link.isExtensionNegotiated = false }
        guard state != .handshaking else { return (bench, receiver, witness) }
        bench.handle(.connected, receiver)
        switch state {
        case .handshaking, .plain, .awaiting: break
        case .stated: bench.stateNewest(receiver)
        case .unstated:
            bench.now += .milliseconds(1100)
            bench.server.timerFired(at: bench.now)
        case .keyed:
            bench.stateNewest(receiver)
            bench.send(.join, receiver)
        case .byGroup, .byCopies:
            bench.stateNewest(receiver)
            bench.makeMember(receiver)
        case .left:
            bench.stateNewest(receiver)
            bench.makeMember(receiver)
            bench.send(.leave, receiver)
        case .closed: bench.handle(.closed(.idleTimeout), receiver)
        }
        bench.serve(receiver)
        return (bench, receiver, witness)
    }

    static func apply(_ event: Event, to receiver: SourceBench.Receiver, _ bench: SourceBench) {
        let taken = PositionMessage(epoch: SourceBench.epoch, cursor: Cursor(position: 2))
        switch event {
        case .connected: bench.handle(.connected, receiver)
        case .closed: bench.handle(.closed(.idleTimeout), receiver)
        case .positionFresh: bench.stateNewest(receiver)
        case .positionTaken: bench.state(taken, receiver)
        case .positionOtherEpoch:
            bench.state(PositionMessage(epoch: Epoch(high: 1, low: 1), cursor: Cursor(position: 900)), receiver)
        case .positionTwice:
            let octets = try! ControlMessage.position(taken).encoded()
            bench.say(octets + octets, receiver)
        case .positionGoingBack:
            bench.state(taken, receiver)
            bench.state(PositionMessage(epoch: SourceBench.epoch, cursor: Cursor(position: 1)), receiver)
        case .positionTimeOver:
            bench.now += .milliseconds(1100)
            bench.server.timerFired(at: bench.now)
        case .controlEnded: bench.say([], receiver, ends: true)
        case .controlReset: bench.handle(.streamReset(.control, code: 7), receiver)
        case .controlStopped: bench.handle(.streamStopped(.control, code: 7), receiver)
        case .join: bench.send(.join, receiver)
        case .ready: bench.send(.ready, receiver)
        case .leave: bench.send(.leave, receiver)
        case .pathAckOfOurs: bench.acknowledge([0...0], receiver)
        case .pathAckOfNone: bench.acknowledge([0...0], path: 9, receiver)
        case .publishOnFlow: publish(10, for: receiver, bench)
        case .publishOffFlow: publish(SourceBench.longOctets, for: receiver, bench)
        case .lossRepaired: loseFirst(of: receiver, bench)
        case .evicted:
            if let member = bench.seat(receiver).member {
                bench.server.withFlow { $0.evict(member, reason: .tooSlow, at: bench.now) }
                bench.server.settle(at: bench.now)
            }
        case .keyChange:
            bench.server.withFlow { $0.rotateKey() }
            _ = bench.transmit()
        case .creditZero:
            receiver.link.creditOctets = 0
            bench.serve(receiver)
            bench.publish(10)
            _ = bench.transmit()
        case .forget: bench.server.forget(receiver.id, at: bench.now)
        }
    }

    /// Publishes a part, which comes to the receiver in exactly the way that its state asks for.
    private static func publish(_ octets: Int, for receiver: SourceBench.Receiver, _ bench: SourceBench) {
        _ = receiver.link.takeParts()
        let part = bench.server.log.next
        bench.publish(octets)
        let seat = bench.seat(receiver)
        let byFlow = octets < SourceBench.longOctets && seat.member != nil
        let isAwaited = if case .awaited = seat.position { true } else { false }
        let isDue = seat.isConnected && !(isAwaited && seat.servedFrom == nil)
        #expect(seat.cursor.contains(part) == (isDue && !byFlow), "part \(part) of \(octets) octets")
        bench.serve(receiver)
        if seat.hasSession {
            #expect(bench.takeWhole(receiver) == (isDue && !byFlow ? [part] : []), "part \(part) of \(octets) octets")
        }
    }

    /// A member says that it has the last of five packets and not the first of them.
    private static func loseFirst(of receiver: SourceBench.Receiver, _ bench: SourceBench) {
        guard bench.seat(receiver).member != nil else { return }
        _ = receiver.link.takeParts()
        let part = bench.server.log.next
        for _ in 0..<5 { bench.publish(1000) }
        let packets = bench.transmit()
        bench.acknowledge([packets[1].number...packets.last!.number], receiver)
        #expect(bench.takeWhole(receiver) == [part])
    }

    static func letter(of receiver: SourceBench.Receiver, _ bench: SourceBench) -> Character {
        let seat = bench.seat(receiver)
        guard seat.isTaken else { return "-" }
        if let closed = receiver.link.closedWith { return [0x15: "5", 0x16: "6"][closed.code] ?? "?" }
        if let error = receiver.link.error { return error.code == .protocolViolation ? "!" : "?" }
        switch seat.phase {
        case .handshaking: return "h"
        case .closed: return "x"
        case .plain: return letter(seat.position, "pPq")
        case .flexicast(let session):
            if seat.member != nil { return seat.way == .copies ? "c" : "g" }
            if session.hasJoined(World.flowID) { return "k" }
            if session.pathID(of: World.flowID) != nil { return "l" }
            return letter(seat.position, "asu")
        }
    }

    private static func letter(_ position: Seat.Position, _ letters: String) -> Character {
        switch position {
        case .awaited: Array(letters)[0]
        case .stated: Array(letters)[1]
        case .unstated: Array(letters)[2]
        }
    }
}
