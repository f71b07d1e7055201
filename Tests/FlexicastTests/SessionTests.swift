import QUIC
import Testing
import Wire

@testable import Flexicast

/// The two sessions of one connection, joined by channels that may delay, reorder and replace frames as a connection
/// does; several flows.
final class SessionPair {
    var now = Instant(nanoseconds: 1_000_000_000)
    var source: SourceSession
    var receiver: ReceiverSession
    var random: SeededRandom
    /// Frames on their way, with the key that a newer frame replaces them by.
    var toReceiver: [(frame: [UInt8], key: UInt64)] = []
    var toSource: [(frame: [UInt8], key: UInt64)] = []
    var keysGiven = 0
    var ended: [EndedMembership] = []
    var receiverActions: [ReceiverAction] = []
    var nextSlot = 0
    /// The secret of each flow, changed by `rotate`.
    var generations: [FlowID: UInt64] = [:]
    var admits = true

    init(seed: UInt64 = 1, maximumPathID: UInt64 = 8, configuration: ReceiverConfiguration = .init()) {
        random = SeededRandom(seed: seed)
        source = SourceSession(support: FlexicastSupport(), maximumPathID: maximumPathID)
        receiver = ReceiverSession(
            isNegotiated: true, maximumPathID: maximumPathID, configuration: configuration,
            seed: SeededRandom(seed: seed))
    }

    static func flow(_ number: Int) -> FlowID { FlowID([0xf0, UInt8(number)])! }

    static func parameters(_ number: Int, v6: Bool = false) -> FlowParameters {
        FlowParameters(
            source: IPAddress(v6 ? "2001:db8::1" : "192.0.2.1")!,
            group: IPAddress(v6 ? "ff3e::8000:\(number + 1)" : "232.0.0.\(number + 1)")!, port: 5000,
            ackDelay: .milliseconds(10))
    }

    func announce(_ number: Int) {
        source.announce(Self.flow(number), Self.parameters(number), at: now)
        drain()
    }

    func key(_ flow: FlowID) -> FlowKey {
        let generation = generations[flow, default: 0]
        return FlowKey(
            generation: generation, suite: .aes128GCM,
            secret: [UInt8](repeating: UInt8(truncatingIfNeeded: generation), count: 31) + [flow[1]],
            firstPacketNumber: generation * 100)
    }

    /// Takes all actions; frames go onto the channels.
    func drain() {
        var isBusy = true
        while isBusy {
            isBusy = false
            while let frame = source.nextFrame() {
                isBusy = true
                toReceiver.removeAll { $0.key == frame.key }
                toReceiver.append((frame.octets, frame.key))
            }
            while let action = receiver.nextAction() {
                isBusy = true
                receiverActions.append(action)
                if case .send(let frame, let key) = action {
                    toSource.removeAll { $0.key == key }
                    toSource.append((frame, key))
                }
            }
        }
    }

    /// Delivers one frame; any of those on their way when `reorders`.
    func deliverOne(reorders: Bool = false) throws(TransportError) {
        let total = toReceiver.count + toSource.count
        guard total > 0 else { return }
        let pick = reorders ? Int.random(in: 0..<total, using: &random) : 0
        if pick < toReceiver.count {
            let frame = toReceiver.remove(at: pick).frame
            _ = try World.deliver(frame, to: &receiver, at: now)
        } else {
            let frame = toSource.remove(at: pick - toReceiver.count).frame
            try deliverToSource(frame)
        }
        drain()
    }

    func deliverToSource(_ frame: [UInt8]) throws(TransportError) {
        var reader = ByteReader(frame.span)
        _ = reader.varint()
        let answer = try source.stateReceived(StateFrame(parsing: &reader), at: now)
        if let membership = answer.ended { ended.append(membership) }
        switch answer.next {
        case .nothing, .joinRefused: break
        case .giveKeys(let flow):
            keysGiven += 1
            source.sendKey(flow, key(flow))
        case .admit(let flow) where admits:
            source.becameMember(flow, MemberID(slot: nextSlot, epoch: 1), at: now)
            nextSlot += 1
        case .admit(let flow): source.evict(flow, at: now)
        }
    }

    func settle() throws(TransportError) {
        while !toReceiver.isEmpty || !toSource.isEmpty { try deliverOne() }
    }

    func open(_ number: Int, packet: UInt64) {
        let flow = Self.flow(number)
        let key = key(flow)
        // The receiver's name for the key is its frame's sequence number.
        for action in receiverActions.reversed() {
            if case .installKey(flow, let installed) = action, installed.secret == key.secret {
                _ = receiver.flowPacketOpened(flow, generation: installed.generation, packetNumber: packet, at: now)
                break
            }
        }
        drain()
    }
}

@Suite struct SessionTests {
    @Test func joinKeyReady() throws {
        let pair = SessionPair()
        pair.announce(0)
        try pair.settle()
        #expect(pair.receiver.state(of: SessionPair.flow(0)) == .joined)
        #expect(pair.source.hasJoined(SessionPair.flow(0)))
        #expect(pair.source.member(of: SessionPair.flow(0)) == nil)
        pair.open(0, packet: 5)
        #expect(pair.receiver.state(of: SessionPair.flow(0)) == .listening)
        try pair.settle()
        #expect(pair.source.member(of: SessionPair.flow(0)) == MemberID(slot: 0, epoch: 1))
        #expect(pair.receiverActions.contains(.listening(SessionPair.flow(0))))
        #expect(
            pair.receiverActions.contains(
                .joinGroup(
                    SessionPair.flow(0), source: IPAddress("192.0.2.1"), group: IPAddress("232.0.0.1")!, port: 5000)))
    }

    /// A flow that pauses has the source asked, once, and long before it is given up.
    @Test func silenceHasTheSourceAskedFirst() throws {
        let pair = SessionPair()
        pair.announce(0)
        try pair.settle()
        pair.open(0, packet: 5)
        try pair.settle()
        func questions() -> Int { pair.receiverActions.count { $0 == .ask } }
        func goOn(_ milliseconds: Int64) {
            pair.now += .milliseconds(milliseconds)
            if pair.receiver.nextDeadline <= pair.now { pair.receiver.timerFired(at: pair.now) }
            pair.drain()
        }
        for packet in 6..<10 as Range<UInt64> {
            goOn(500)
            pair.open(0, packet: packet)
        }
        #expect(questions() == 0, "a flow that has nothing to send is heard twice a second")
        #expect(pair.receiver.nextDeadline == pair.now + .milliseconds(750))
        goOn(750)
        #expect(questions() == 1)
        #expect(pair.receiver.nextDeadline == pair.now + .milliseconds(750))
        goOn(700)
        #expect(questions() == 1)
        #expect(pair.receiver.state(of: SessionPair.flow(0)) == .listening)
        pair.open(0, packet: 10)
        goOn(750)
        #expect(questions() == 2)
        goOn(750)
        #expect(pair.receiver.state(of: SessionPair.flow(0)) == .left)
        #expect(questions() == 2)
    }

    @Test func onlyOneFirstJoinIsUnanswered() throws {
        let pair = SessionPair()
        for number in 0..<3 { pair.announce(number) }
        while !pair.toReceiver.isEmpty {
            let frame = pair.toReceiver.removeFirst().frame
            _ = try World.deliver(frame, to: &pair.receiver)
            pair.drain()
        }
        #expect((0..<3).map { pair.receiver.state(of: SessionPair.flow($0)) } == [.needsKey, .aware, .aware])
        try pair.settle()
        #expect((0..<3).map { pair.receiver.pathID(of: SessionPair.flow($0)) } == [1, 2, 3])
        #expect((0..<3).map { pair.source.pathID(of: SessionPair.flow($0)) } == [1, 2, 3])
    }

    /// Whatever is reordered, replaced or crossed, both ends number the paths alike and agree in the end.
    @Test(arguments: 1...200 as ClosedRange<UInt64>)
    func bothEndsCountPathsAlike(seed: UInt64) throws {
        var configuration = ReceiverConfiguration()
        configuration.firstBackOff = .milliseconds(100)
        configuration.steadyTime = .milliseconds(200)
        let pair = SessionPair(seed: seed, configuration: configuration)
        var dice = SeededRandom(seed: seed &* 7919)
        for _ in 0..<120 {
            let number = Int.random(in: 0..<4, using: &dice)
            let flow = SessionPair.flow(number)
            pair.now += .milliseconds(Int64.random(in: 0...400, using: &dice))
            switch Int.random(in: 0..<12, using: &dice) {
            case 0, 1: pair.announce(number)
            case 2: pair.receiver.join(flow, at: pair.now)
            case 3: pair.receiver.leave(flow, at: pair.now)
            case 4: pair.open(number, packet: pair.key(flow).firstPacketNumber + 3)
            case 5: pair.source.evict(flow, at: pair.now)
            case 6:
                for step in 0..<5 {
                    pair.receiver.flowPacketHeard(flow, at: pair.now + .milliseconds(Int64(step) * 100))
                }
            case 7 where Int.random(in: 0..<8, using: &dice) == 0: _ = pair.source.withdraw(flow)
            case 8:
                pair.generations[flow, default: 0] += 1
                pair.source.sendKey(flow, pair.key(flow))
            case 9: pair.receiver.timerFired(at: pair.now)
            default: break
            }
            pair.drain()
            for _ in 0..<Int.random(in: 0...3, using: &dice) { try pair.deliverOne(reorders: true) }
        }
        // Everything arrives in the end.
        var left = 2000
        while left > 0, !pair.toReceiver.isEmpty || !pair.toSource.isEmpty {
            try pair.deliverOne(reorders: true)
            left -= 1
        }
        #expect(left > 0, "frames without end")
        for number in 0..<4 {
            let flow = SessionPair.flow(number)
            let ours = pair.source.pathID(of: flow)
            #expect(pair.receiver.pathID(of: flow) == ours, "seed \(seed) flow \(number)")
            switch pair.receiver.state(of: flow) {
            case .needsKey, .joined, .listening: #expect(pair.source.hasJoined(flow), "seed \(seed) flow \(number)")
            case .unaware, .aware, .left, .retired: #expect(!pair.source.hasJoined(flow), "seed \(seed) flow \(number)")
            }
            if pair.receiver.state(of: flow) == .listening { #expect(pair.source.member(of: flow) != nil) }
        }
        #expect(pair.receiver.unanswered == nil, "seed \(seed)")
    }

    @Test func aFlowKeepsItsPathAfterLeaveAndJoin() throws {
        let pair = SessionPair()
        pair.announce(0)
        try pair.settle()
        pair.open(0, packet: 1)
        try pair.settle()
        pair.receiver.leave(SessionPair.flow(0), at: pair.now)
        pair.drain()
        try pair.settle()
        #expect(pair.source.member(of: SessionPair.flow(0)) == nil)
        pair.announce(1)
        try pair.settle()
        pair.receiver.join(SessionPair.flow(0), at: pair.now)
        pair.drain()
        try pair.settle()
        #expect(pair.receiver.state(of: SessionPair.flow(0)) == .joined)
        #expect(pair.receiver.pathID(of: SessionPair.flow(0)) == 1)
        #expect(pair.receiver.pathID(of: SessionPair.flow(1)) == 2)
        let opened = pair.receiverActions.filter { if case .openReceivePath = $0 { true } else { false } }
        #expect(opened.count == 3, "once more for the flow that is joined again")
    }

    @Test func theMaximumPathIDBoundsTheFlowsJoined() throws {
        let pair = SessionPair(maximumPathID: 1)
        pair.announce(0)
        pair.announce(1)
        try pair.settle()
        #expect(pair.receiver.state(of: SessionPair.flow(0)) == .joined)
        #expect(pair.receiver.state(of: SessionPair.flow(1)) == .aware)
        // A receiver that joins all the same is in error.
        let join = StateFrame(flowID: SessionPair.flow(1), sequence: 0, action: .join).encoded
        #expect(throws: TransportError.self) { try pair.deliverToSource(join) }
    }

    @Test func joinAndLeaveInCirclesIsLimited() throws {
        let pair = SessionPair()
        pair.announce(0)
        try pair.settle()
        for _ in 0..<50 {
            pair.receiver.leave(SessionPair.flow(0), at: pair.now)
            pair.drain()
            try pair.settle()
            pair.receiver.join(SessionPair.flow(0), at: pair.now)
            pair.drain()
            try pair.settle()
        }
        #expect(pair.keysGiven <= 5)
        #expect(pair.source.joinsRefused >= 40)
        #expect(pair.receiver.state(of: SessionPair.flow(0)) == .left)
    }

    @Test func aWithdrawnFlowIsForgottenButItsLateFramesAreIgnored() throws {
        let pair = SessionPair()
        pair.announce(0)
        try pair.settle()
        pair.open(0, packet: 1)
        try pair.settle()
        let ended = pair.source.withdraw(SessionPair.flow(0))
        pair.drain()
        #expect(ended == .member(MemberID(slot: 0, epoch: 1), .withdrawn))
        try pair.settle()
        #expect(pair.receiver.state(of: SessionPair.flow(0)) == .retired)
        #expect(pair.receiverActions.contains(.fellBack(SessionPair.flow(0), .withdrawn)))
        #expect(
            pair.receiverActions.contains(
                .leaveGroup(
                    SessionPair.flow(0), source: IPAddress("192.0.2.1"), group: IPAddress("232.0.0.1")!, port: 5000)))
        // Frames for the withdrawn flow in either direction are ignored.
        let key = KeyFrame(
            flowID: SessionPair.flow(0), sequence: 99, packetNumber: 0, suite: .aes128GCM,
            secret: [UInt8](repeating: 1, count: 32))
        _ = try World.deliver(key.encoded, to: &pair.receiver)
        let state = StateFrame(flowID: SessionPair.flow(0), sequence: 99, action: .ready)
        try pair.deliverToSource(state.encoded)
        pair.drain()
        #expect(pair.receiver.state(of: SessionPair.flow(0)) == .retired)
        #expect(!pair.source.hasJoined(SessionPair.flow(0)))
    }

    @Test func whatIsRememberedOfRetiredFlowsIsBounded() throws {
        var configuration = ReceiverConfiguration()
        configuration.joinsByItself = false
        let pair = SessionPair(configuration: configuration)
        for number in 0..<1000 {
            let id = FlowID([1, UInt8(number >> 8), UInt8(number & 255)])!
            let parameters = SessionPair.parameters(1)
            _ = try World.deliver(
                AnnounceFrame(flowID: id, sequence: 0, parameters: parameters).encoded, to: &pair.receiver)
            _ = try World.deliver(
                AnnounceFrame(flowID: id, sequence: 1, parameters: parameters.withdrawn).encoded, to: &pair.receiver)
        }
        #expect(pair.receiver.flows.count <= configuration.maximumRetired + configuration.maximumFlows)
        // One that was forgotten is ignored, not a violation.
        let leave = StateFrame(flowID: FlowID([1, 0, 0])!, sequence: 0, action: .leave)
        _ = try World.deliver(leave.encoded, to: &pair.receiver)
        // Announcements without end are bounded as well.
        for number in 0..<1000 {
            let id = FlowID([2, UInt8(number >> 8), UInt8(number & 255)])!
            _ = try World.deliver(
                AnnounceFrame(flowID: id, sequence: 0, parameters: SessionPair.parameters(1)).encoded,
                to: &pair.receiver)
        }
        #expect(pair.receiver.announcedFlows.count == configuration.maximumFlows)
        #expect(pair.receiver.statistics.flowsOverLimit == 1000 - UInt64(configuration.maximumFlows))
    }

    @Test func aKeyForAFlowNeverJoinedIsAViolation() throws {
        var configuration = ReceiverConfiguration()
        configuration.joinsByItself = false
        let pair = SessionPair(configuration: configuration)
        pair.announce(0)
        try pair.settle()
        let key = KeyFrame(
            flowID: SessionPair.flow(0), sequence: 0, packetNumber: 0, suite: .aes128GCM,
            secret: [UInt8](repeating: 1, count: 32))
        #expect(throws: TransportError.self) { _ = try World.deliver(key.encoded, to: &pair.receiver) }
    }

    @Test func withoutNegotiationTheFramesAreNotOurs() throws {
        var receiver = ReceiverSession(isNegotiated: false, maximumPathID: 0, seed: SeededRandom(seed: 1))
        let frame = AnnounceFrame(flowID: SessionPair.flow(0), sequence: 0, parameters: SessionPair.parameters(0))
        let byReceiver = try World.deliver(frame.encoded, to: &receiver)
        #expect(byReceiver == nil)
        // A source has no session for such a receiver, and says nothing of a flow.
        let world = World(seed: 1)
        let id = world.server.accept(at: world.now)
        var link = StandInLink()
        link.isExtensionNegotiated = false
        world.server.handle(.connected, of: id, on: &link, at: world.now)
        var frames = ReceivedFrames()
        world.server.serve(id, frames: &frames, on: &link, at: world.now)
        #expect(link.takeFrames().isEmpty && world.flow.audience == 0)
    }

    @Test func onlyFlowsOfADeclaredIPVersionAreAnnouncedAndJoined() throws {
        var source = SourceSession(
            support: FlexicastSupport(ipv4: true, ipv6: false), maximumPathID: 4)
        let now = Instant(nanoseconds: 0)
        let six = source.announce(SessionPair.flow(0), SessionPair.parameters(0, v6: true), at: now)
        let four = source.announce(SessionPair.flow(1), SessionPair.parameters(1), at: now)
        #expect(!six && four)
        var configuration = ReceiverConfiguration()
        configuration.support = FlexicastSupport(ipv4: true, ipv6: false)
        let pair = SessionPair(configuration: configuration)
        let frame = AnnounceFrame(
            flowID: SessionPair.flow(0), sequence: 0, parameters: SessionPair.parameters(0, v6: true))
        _ = try World.deliver(frame.encoded, to: &pair.receiver)
        #expect(pair.receiver.state(of: SessionPair.flow(0)) == .aware)
        #expect(pair.receiver.statistics.unsupportedFlows == 1)
        #expect(pair.receiver.nextAction() == nil)
    }

    @Test func backOffGrowsWithEachFallBackAndIsForgottenAfterStableListening() throws {
        let (first, start) = ReceiverTableTests.session(in: .listening)
        var session = first
        var now = start
        var waits: [Duration] = []
        for round in 0..<4 {
            now += .seconds(2)
            session.timerFired(at: now)
            #expect(session.state(of: World.flowID) == .left)
            let left = now
            while session.state(of: World.flowID) == .left {
                now += .milliseconds(100)
                session.flowPacketHeard(World.flowID, at: now)
            }
            waits.append(now - left)
            ReceiverTableTests.key(&session, sequence: UInt64(10 + round))
            _ = session.flowPacketOpened(World.flowID, generation: UInt64(10 + round), packetNumber: 20, at: now)
            #expect(session.state(of: World.flowID) == .listening)
        }
        #expect(waits == waits.sorted())
        #expect(waits.last! >= .seconds(8))
        // Half a minute of steady listening, then a fall back costs one second again.
        for _ in 0..<400 {
            now += .milliseconds(100)
            _ = session.flowPacketOpened(World.flowID, generation: 13, packetNumber: 21, at: now)
        }
        now += .seconds(2)
        session.timerFired(at: now)
        let left = now
        while session.state(of: World.flowID) == .left {
            now += .milliseconds(100)
            session.flowPacketHeard(World.flowID, at: now)
        }
        #expect(now - left <= .milliseconds(2200))
    }

    @Test func whoLostTheFlowTogetherReturnsAtATimeOfItsOwn() {
        var returns: [Duration] = []
        for seed in 1...200 as ClosedRange<UInt64> {
            var (session, now) = ReceiverTableTests.session(in: .listening, seed: seed)
            now += .seconds(20)
            session.timerFired(at: now)
            now += .seconds(20)
            let start = now
            while session.state(of: World.flowID) == .left, now - start < .seconds(5) {
                session.flowPacketHeard(World.flowID, at: now)
                now += .milliseconds(20)
            }
            returns.append(now - start)
        }
        returns.sort()
        #expect(returns.first! >= .seconds(1) && returns.last! <= .milliseconds(2040))
        // Evenly over the second: no tenth of it has more than twice its part.
        for start in stride(from: 1000, to: 2000, by: 100) {
            let range = Duration.milliseconds(start)..<Duration.milliseconds(start + 100)
            #expect(returns.count(where: range.contains) <= 40, "from \(start) ms")
        }
    }

    @Test func packetsBeforeTheFirstNumberOfTheirKeyAreNotProcessed() throws {
        var (session, now) = ReceiverTableTests.session(in: .listening)
        now += .milliseconds(1)
        let path1 = session.flowPacketOpened(World.flowID, generation: 3, packetNumber: 9, at: now)
        #expect(path1 == nil)
        let path2 = session.flowPacketOpened(World.flowID, generation: 3, packetNumber: 10, at: now)
        #expect(path2 == 1)
        // A new key from 50 on: the old one covers what comes before and nothing after.
        let next = KeyFrame(
            flowID: World.flowID, sequence: 4, packetNumber: 50, suite: .aes128GCM,
            secret: [UInt8](repeating: 4, count: 32))
        _ = try World.deliver(next.encoded, to: &session)
        let path3 = session.flowPacketOpened(World.flowID, generation: 3, packetNumber: 49, at: now)
        #expect(path3 == 1)
        let path4 = session.flowPacketOpened(World.flowID, generation: 3, packetNumber: 50, at: now)
        #expect(path4 == nil)
        let path5 = session.flowPacketOpened(World.flowID, generation: 4, packetNumber: 49, at: now)
        #expect(path5 == nil)
        let path6 = session.flowPacketOpened(World.flowID, generation: 4, packetNumber: 50, at: now)
        #expect(path6 == 1)
        // The old key goes some time after the new one is in use.
        while session.nextAction() != nil {}
        for _ in 0..<40 {
            now += .milliseconds(100)
            session.timerFired(at: now)
            _ = session.flowPacketOpened(World.flowID, generation: 4, packetNumber: 51, at: now)
        }
        let action = session.nextAction()
        #expect(action == .dropKey(World.flowID, generation: 3))
    }
}
