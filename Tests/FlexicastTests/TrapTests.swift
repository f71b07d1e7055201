// Long because the thirteen traps stand in one file, in the order in which the design numbers them.

import QUIC
import Testing
import Wire

@testable import Flexicast

/// What makes a shared flow different from a QUIC path: a naive implementation fails each of these.
@Suite struct TrapTests {
    // MARK: 1. Late join

    @Test func trap1LateJoinAfter100000StreamsIsNotFlowControlBlocked() throws {
        let bench = Bench { $0.rateCeiling = 10_000_000_000 }
        let first = bench.addMembers(1)[0]
        for _ in 0..<1000 {
            for _ in 0..<100 { _ = bench.flow.publish(StreamOctets([1])) }
            bench.now += .milliseconds(1)
            let sent = bench.transmit()
            bench.acknowledge(first, [0...sent.last!])
        }
        #expect(bench.flow.nextStream.index == 100_000)
        #expect(bench.flow.recordsHeld == 0)
        bench.actions.removeAll()
        bench.now += .seconds(1)
        // A joiner with a few octets and streams of credit: cumulative counts would block it for good.
        let late = bench.addMembers(1, octets: 1000, streams: 3)[0]
        for _ in 0..<3 { bench.sendPacket(300) }
        let charge = bench.flow.takeCharge(late)
        #expect(charge == FlowCharge(octets: 900, streams: 3))
        // Nor does it lack any of the streams before: leaving, it is owed just the three.
        bench.flow.leave(late, reason: .left, at: bench.now)
        #expect(bench.takeRepairs().map(\.stream) == [100_000, 100_001, 100_002])
    }

    /// What the flow sends a member is within its credit, and the flow goes on at that instant for the others.
    @Test func trap1NoCreditHoldsTheFlow() throws {
        let bench = Bench()
        let members = bench.addMembers(2, octets: 500, streams: 10)
        bench.flow.setCredit(members[0], octets: 100_000, streams: 10)
        _ = bench.flow.publish(StreamOctets([UInt8](repeating: 1, count: 3000)))
        bench.transmit()
        #expect(bench.flow.statistics.newOctets == 3000)
        #expect(bench.removals.map(\.0) == [members[1]])
        #expect(bench.removals.map(\.1) == [.outOfCredit])
        guard
            case .memberRemoved(_, _, let charge)? = bench.actions.last(where: {
                if case .memberRemoved = $0 { true } else { false }
            })
        else { return }
        #expect(charge == FlowCharge(octets: 500, streams: 1))
        // It is given what it has not settled, and what it was to get, once each.
        let repairs = bench.takeRepairs()
        #expect(repairs.map(\.range) == [0..<500, 500..<3000])
        #expect(repairs.map(\.counted) == [false, true])
        #expect(bench.flow.takeCharge(members[0]).octets == 3000)
    }

    // MARK: 2. One stream ID space

    @Test func trap2StreamsOnAndOffTheFlowShareOneNumbering() {
        let bench = Bench()
        let alone = bench.flow.publish(StreamOctets([1]))
        #expect(alone == .init(stream: StreamID(3), onFlow: false))
        let member = bench.addMembers(1)[0]
        let shared = bench.flow.publish(StreamOctets([2]))
        #expect(shared == .init(stream: StreamID(7), onFlow: true))
        let large = bench.flow.publish(StreamOctets([UInt8](repeating: 0, count: 5 << 20)))
        #expect(large == .init(stream: StreamID(11), onFlow: false))
        #expect(bench.flow.nextStream == StreamID(15))
        bench.flow.leave(member, reason: .left, at: bench.now)
        #expect(bench.takeRepairs().map(\.stream) == [1])
    }

    // MARK: 3. Repair choice

    @Test func trap3FewLossesAreRepairedOnUnicastManyOnTheFlow() throws {
        let bench = Bench()
        let members = bench.addMembers(40)
        let lost = bench.sendPacket()
        for _ in 0..<3 { bench.sendPacket() }
        bench.actions.removeAll()
        let top = bench.flow.nextPacketNumber - 1
        // Ten per cent of forty members is four: three are served alone.
        for (index, member) in members[..<3].enumerated() {
            bench.acknowledge(member, [(lost + 1)...top])
            for other in members[(20 + index * 4)..<(24 + index * 4)] { bench.acknowledge(other, [lost...top]) }
        }
        #expect(bench.takeRepairs().map(\.member) == Array(members[..<3]))
        #expect(bench.flow.statistics.flowRepairs == 0)
        for member in members[3..<20] { bench.acknowledge(member, [(lost + 1)...top]) }
        #expect(bench.takeRepairs().isEmpty)
        #expect(bench.flow.statistics.flowRepairs == 1)
        let before = bench.flow.statistics.octetsRepairedOnFlow
        let repair = bench.transmit()
        #expect(repair == [top + 1])
        #expect(bench.flow.statistics.octetsRepairedOnFlow == before + 100)
        // The repair belongs to everybody again: whoever loses it too is served again.
        for _ in 0..<3 { bench.sendPacket() }
        bench.actions.removeAll()
        bench.acknowledge(members[5], [(top + 2)...(top + 4), (lost + 1)...top])
        #expect(bench.takeRepairs().map(\.stream) == [0])
    }

    @Test func trap3ALossThatMostReportGoesOnTheFlowBeforeATenthOfALargeGroupHasReported() throws {
        let bench = Bench()
        let members = bench.addMembers(1000)
        for _ in 0..<4 { bench.sendPacket() }
        bench.actions.removeAll()
        for member in members { bench.acknowledge(member, [1...3]) }
        #expect(bench.flow.statistics.unicastRepairs == 2)
        #expect(bench.flow.statistics.flowRepairs == 1)
        // Scattered losses of one packet in twenty stay on unicast.
        for _ in 0..<4 { bench.sendPacket() }
        let first = bench.flow.nextPacketNumber - 4
        for (index, member) in members.enumerated() {
            let ranges = index % 20 == 0 ? [(first + 1)...(first + 3), 0...(first - 1)] : [0...(first + 3)]
            bench.acknowledge(member, ranges)
        }
        #expect(bench.flow.statistics.flowRepairs == 1)
        #expect(bench.flow.statistics.unicastRepairs == 52)
    }

    /// A line that all share loses for all: when that has been seen for a while, the first report is enough, and no repair
    /// on a connection fills the line. Liars alone do not bring it about.
    @Test(arguments: [true, false]) func trap3WhatMostUsuallyLoseGoesOnTheFlowAtOnce(areMost: Bool) throws {
        let bench = Bench { $0.rateCeiling = .max }
        let members = bench.addMembers(100)
        var known: UInt64 = 0
        func lose(by losers: ArraySlice<MemberID>) {
            bench.sendPacket()
            let lost = bench.sendPacket()
            // One in twenty: nobody is put out for that.
            for _ in 0..<19 { bench.sendPacket() }
            let top = bench.flow.nextPacketNumber - 1
            for member in losers { bench.acknowledge(member, [(lost + 1)...top, known...(lost - 1)]) }
            for member in members where !losers.contains(member) { bench.acknowledge(member, [known...top]) }
            known = top + 1
        }
        for _ in 0..<40 { lose(by: areMost ? members[...] : members[..<30]) }
        let before = bench.flow.statistics.unicastRepairs
        for _ in 0..<10 { lose(by: members[..<1]) }
        // Others' losses have to be told from it again, once most losses are not shared any more.
        #expect(bench.flow.statistics.unicastRepairs - before == (areMost ? 0 : 10))
        for _ in 0..<100 { lose(by: members[..<1]) }
        #expect(bench.flow.statistics.unicastRepairs - before >= 60)
    }

    @Test func trap3SeveralLossesOfOneStreamInAnyOrder() throws {
        let bench = Bench { $0.flowRepairPercent = 100 }
        let members = bench.addMembers(3)
        _ = bench.flow.publish(StreamOctets((0..<12_000).map { UInt8(truncatingIfNeeded: $0) }))
        let sent = bench.transmit()
        #expect(sent.count >= 10)
        bench.actions.removeAll()
        // Packets 1, 4, 5 and 7 are lost, in two reports.
        let top = sent.last!
        bench.acknowledge(members[0], [2...3, 0...0])
        bench.acknowledge(members[0], [8...top, 6...6, 2...3, 0...0])
        let repairs = bench.takeRepairs()
        // 4 and 5 are neighbours and leave as one.
        #expect(repairs.count == 3)
        #expect(repairs.allSatisfy { $0.stream == 0 && !$0.counted })
        #expect(repairs.map(\.range.lowerBound) == repairs.map(\.range.lowerBound).sorted())
    }

    // MARK: 4. Loss detection does not wait for a timer

    @Test func trap4TheAcknowledgementThatRevealsALossRepairsIt() throws {
        let bench = Bench()
        let members = bench.addMembers(5)
        for _ in 0..<5 { bench.sendPacket() }
        bench.actions.removeAll()
        // Two behind is no loss yet, three is: at that very call, with no time passing.
        bench.acknowledge(members[0], [2...3, 0...0])
        #expect(bench.takeRepairs().isEmpty)
        bench.acknowledge(members[0], [2...4, 0...0])
        #expect(bench.takeRepairs().map(\.stream) == [1])
        // And only once.
        bench.acknowledge(members[0], [2...4, 0...0])
        #expect(bench.takeRepairs().isEmpty)
    }

    // MARK: 5. Tail loss and silence

    @Test func trap5AnIdleFlowMakesNobodyFallBack() {
        let world = World(seed: 5)
        for _ in 0..<3 { world.addReceiver() }
        world.run(for: .seconds(60))
        #expect(world.flow.memberCount == 3)
        #expect(world.receivers.allSatisfy { $0.fallBacks.isEmpty })
        // About two a second, and no burst.
        #expect(world.flow.statistics.packetsSent < 150)
    }

    @Test func trap5ALostTailIsRepairedBeforeSilence() {
        let world = World(seed: 6)
        let victim = world.addReceiver()
        world.addReceiver()
        world.run(for: .seconds(1))
        world.publish(500)
        world.run(for: .milliseconds(100))
        victim.loss = 1
        world.publish(3000)
        victim.loss = 0
        world.run(for: .milliseconds(600))
        #expect(world.missing == [])
        #expect(victim.fallBacks.isEmpty)
        #expect(victim.streams[1]!.viaUnicast == UInt64(world.published[1].count))
    }

    @Test func trap5ADeadTreeIsNoticedAndEverythingComesOnUnicast() {
        let world = World(seed: 7)
        let victim = world.addReceiver()
        world.addReceiver()
        world.run(for: .seconds(1))
        victim.isCut = true
        for _ in 0..<20 {
            world.publish(2000)
            world.run(for: .milliseconds(100))
        }
        #expect(victim.fallBacks.first == .silence)
        #expect(world.settle(limit: .seconds(2)))
        world.check()
        #expect(world.problems == [])
        #expect(world.flow.memberCount == 1)
    }

    // MARK: 6. Acknowledgements at scale

    @Test func trap6TheAckDelayFollowsTheNumberOfMembers() {
        #expect(AckDelayBudget.delay(members: 1, bitsPerSecond: 10_000_000) == .milliseconds(5))
        #expect(AckDelayBudget.delay(members: 1000, bitsPerSecond: 10_000_000) == .milliseconds(74))
        #expect(AckDelayBudget.delay(members: 1_000_000, bitsPerSecond: 10_000_000) == .seconds(1))
        #expect(AckDelayBudget.delay(members: 0, bitsPerSecond: 0) == .milliseconds(5))
        let bench = Bench()
        _ = bench.addMembers(1000)
        bench.now += .seconds(1)
        bench.flow.timerFired(at: bench.now)
        bench.drain()
        let announced = bench.actions.compactMap { if case .announce(let p) = $0 { p.ackDelay } else { nil } }
        #expect(announced == [.milliseconds(74)])
    }

    @Test func trap6ReceiversDoNotReportTogether() {
        let world = World(seed: 8)
        for _ in 0..<20 { world.addReceiver() }
        world.run(for: .seconds(1))
        var parameters = World.parameters
        parameters.ackDelay = .milliseconds(100)
        _ = world.server.seats[0].withSession { $0.announce(World.flowID, parameters, at: world.now) }
        world.pump()
        world.run(for: .milliseconds(50))
        #expect(world.receivers[0].ackDelay <= .milliseconds(100))
        #expect(world.receivers[0].ackDelay >= .milliseconds(75))
        let delays = Set(world.receivers.map(\.ackDelay))
        #expect(delays.count > 15)
    }

    // MARK: 7. Aggregation

    @Test func trap7StateGoesWhenEveryMemberHasAcknowledgedOrLeft() throws {
        let bench = Bench()
        let members = bench.addMembers(3)
        for _ in 0..<10 { bench.sendPacket(1000) }
        bench.acknowledge(members[0], [0...9])
        bench.acknowledge(members[1], [0...9])
        #expect(bench.flow.octetsHeld == 10_000)
        bench.acknowledge(members[2], [0...3])
        #expect(bench.flow.octetsHeld == 6000)
        bench.actions.removeAll()
        bench.flow.leave(members[2], reason: .left, at: bench.now)
        #expect(bench.flow.octetsHeld == 0)
        #expect(bench.flow.recordsHeld == 0)
        #expect(bench.takeRepairs().map(\.stream) == [4, 5, 6, 7, 8, 9])
        // A late event of the member that has gone touches nobody, not even its successor in the slot.
        let next = bench.addMembers(1)[0]
        #expect(next.slot == members[2].slot)
        bench.sendPacket()
        bench.acknowledge(members[2], [0...10])
        #expect(bench.flow.octetsHeld == 100)
    }

    /// Nor is its connection to blame: who knows the key can forge a packet that it acknowledges in good faith.
    @Test func trap7WhoAcknowledgesWhatWasNotSentLeavesAndSettlesNothing() throws {
        let bench = Bench()
        let members = bench.addMembers(2)
        for _ in 0..<4 { bench.sendPacket() }
        bench.actions.removeAll()
        let liar = members[0]
        bench.acknowledge(liar, [0...4])
        #expect(bench.removals.map(\.1) == [.violation])
        #expect(LeaveReason.violation.isEviction)
        // It is given all that it has not settled, on its own path.
        #expect(bench.takeRepairs().map(\.stream) == [0, 1, 2, 3])
        bench.acknowledge(liar, [0...(1 << 61)])
        #expect(bench.flow.statistics.refusedAcknowledgements == 1)
        #expect(bench.flow.statistics.acknowledgements == 0)
        #expect(bench.flow.octetsHeld == 400)
        bench.acknowledge(members[1], [0...3])
        #expect(bench.flow.octetsHeld == 0)
    }

    @Test func trap7SkippedNumbersCatchALiarAndHurtNobodyElse() throws {
        let bench = Bench { $0.skipInterval = 10 }
        let members = bench.addMembers(2)
        var sent: [UInt64] = []
        for _ in 0..<200 { sent.append(bench.sendPacket()) }
        #expect(sent.last! > 210)
        bench.actions.removeAll()
        let skipped = Set(0...sent.last!).subtracting(sent)
        #expect(skipped.count > 10)
        bench.acknowledge(members[0], [0...sent.last!])
        #expect(bench.removals.map(\.0) == [members[0]])
        bench.actions.removeAll()
        var ranges: [ClosedRange<UInt64>] = []
        for number in sent.reversed() {
            if let last = ranges.last, last.lowerBound == number + 1 {
                ranges[ranges.count - 1] = number...last.upperBound
            } else {
                ranges.append(number...number)
            }
        }
        bench.acknowledge(members[1], ranges)
        // Gaps of numbers that were never sent are no losses.
        #expect(bench.takeRepairs().isEmpty)
        #expect(bench.flow.recordsHeld == 0)
    }

    @Test func trap7TheCostOfAnAcknowledgementDependsOnNeitherMembersNorFlight() throws {
        func cost(members count: Int, flight: Int) throws -> UInt64 {
            let bench = Bench {
                $0.rateCeiling = 100_000_000_000
                $0.maximumUnsettledOctets = 1 << 30
            }
            let members = bench.addMembers(count)
            for _ in 0..<flight { bench.sendPacket(1) }
            let before = bench.flow.workSteps
            let last = bench.flow.nextPacketNumber - 1
            for member in members { bench.acknowledge(member, [0...last]) }
            return (bench.flow.workSteps - before) / UInt64(count)
        }
        let small = try cost(members: 4, flight: 10)
        let deep = try cost(members: 4, flight: 4000)
        let wide = try cost(members: 1024, flight: 10)
        #expect(deep == small)
        // Two trees of ten levels.
        #expect(wide <= 24)
    }

    // MARK: 8. Bounded memory

    @Test func trap8AMemberThatStopsAcknowledgingIsEvictedAndTheFlowGoesOn() throws {
        let bench = Bench {
            $0.rateCeiling = 50_000_000
            $0.maximumUnsettledOctets = 1 << 20
        }
        let members = bench.addMembers(2)
        var worst: UInt64 = 0
        for _ in 0..<1500 {
            _ = bench.flow.publish(StreamOctets([UInt8](repeating: 1, count: 1000)))
            bench.advance(.milliseconds(2))
            if bench.flow.nextPacketNumber > 0 {
                bench.acknowledge(members[0], [0...(bench.flow.nextPacketNumber - 1)])
            }
            worst = max(worst, bench.flow.unsettledOctets)
        }
        #expect(worst <= 1 << 20)
        #expect(bench.removals.map(\.0) == [members[1]])
        #expect(bench.flow.statistics.newOctets == 1_500_000)
        #expect(bench.flow.queuedOctets == 0)
        #expect(bench.flow.memberCount == 1)
    }

    @Test func trap8TheSlowestIsEvictedBeforeTheBoundIsReached() throws {
        let bench = Bench {
            $0.rateCeiling = 1_000_000_000
            $0.maximumUnsettledOctets = 200_000
            $0.memberTimeout = .seconds(60)
        }
        let members = bench.addMembers(2)
        for _ in 0..<300 {
            _ = bench.flow.publish(StreamOctets([UInt8](repeating: 1, count: 1000)))
            bench.now += .milliseconds(3)
            bench.flow.relieveMemory(at: bench.now)
            bench.transmit()
            bench.acknowledge(members[0], [0...(bench.flow.nextPacketNumber - 1)])
            #expect(bench.flow.queuedOctets == 0)
        }
        #expect(bench.removals.map(\.1) == [.tooSlow])
    }

    // MARK: 9. Rate

    @Test func trap9OneThatCannotFollowLeavesAndSlowsNobodyDown() throws {
        let bench = Bench {
            $0.rateCeiling = 50_000_000
            $0.flowRepairPercent = 100
        }
        let members = bench.addMembers(4)
        var lowest = UInt64.max
        for step in 0..<600 {
            let number = bench.sendPacket(1000)
            bench.now += .milliseconds(20)
            for member in members[1...] { bench.acknowledge(member, [0...number]) }
            // A third of the packets never reach the first member.
            if step % 3 != 0 { bench.acknowledge(members[0], [number...number]) }
            lowest = min(lowest, bench.flow.rate)
        }
        #expect(lowest == 50_000_000)
        #expect(bench.removals.map(\.0) == [members[0]])
        #expect(bench.removals.map(\.1) == [.belowRateFloor])
    }

    @Test func trap9AFlowThatTricklesEvictsNobodyForItsFewLosses() throws {
        let bench = Bench { $0.flowRepairPercent = 100 }
        let members = bench.addMembers(2)
        for step in 0..<400 {
            let number = bench.sendPacket(200)
            bench.advance(.milliseconds(100))
            let top = bench.flow.nextPacketNumber - 1
            bench.acknowledge(members[1], [0...top])
            // Every other packet is lost; the PINGs that reveal it arrive.
            if step % 2 == 0 {
                bench.acknowledge(members[0], [0...top])
            } else {
                bench.acknowledge(members[0], top > number ? [(number + 1)...top] : [top...top])
            }
        }
        #expect(bench.flow.statistics.lossReports > 100)
        #expect(bench.flow.memberCount == 2)
    }

    @Test func trap9AnEvictedReceiverMayComeBackLater() throws {
        let world = World(seed: 9)
        let receiver = world.addReceiver()
        world.addReceiver()
        world.run(for: .seconds(1))
        let member = world.member(receiver)!
        world.server.withFlow { $0.evict(member, reason: .belowRateFloor, at: world.now) }
        world.pump()
        world.run(for: .milliseconds(500))
        #expect(receiver.state == .left)
        #expect(receiver.fallBacks == [.sourceLeft])
        world.run(for: .seconds(10))
        #expect(receiver.state == .listening)
        #expect(receiver.returns == 1)
        // It never asks before its pause is over, which doubles.
        for returns in 2...4 {
            let member = try #require(world.member(receiver))
            world.server.withFlow { $0.evict(member, reason: .belowRateFloor, at: world.now) }
            world.pump()
            world.run(for: .seconds((2 << returns) + 4))
            #expect(receiver.returns == returns)
        }
        #expect(world.server.joinsRefused == 0)
    }

    // MARK: 10. Leavers know the key

    /// Where receivers are admitted by who they are.
    private static var rotating: FlowConfiguration {
        var configuration = FlowConfiguration()
        configuration.rotatesKeyAfterLeave = true
        return configuration
    }

    @Test func trap10AfterALeaveTheKeyChangesAndTheLeaverCannotReadOn() {
        let world = World(seed: 10, configuration: Self.rotating)
        let leaver = world.addReceiver()
        let stayer = world.addReceiver()
        world.run(for: .seconds(1))
        let known = leaver.secrets
        leaver.client.leave(World.flowID, at: world.now)
        world.pump()
        world.run(for: .seconds(12))
        world.publish(5000)
        #expect(world.settle())
        #expect(!known.values.contains(world.flow.currentKey.secret))
        #expect(world.flow.currentKey.generation == 1)
        #expect(stayer.secrets.values.contains(world.flow.currentKey.secret))
        #expect(stayer.fallBacks.isEmpty)
        #expect(world.problems == [])
    }

    @Test func trap10TheKeyIsReplacedBeforeItWearsOut() throws {
        let bench = Bench {
            $0.packetsPerKey = 1000
            $0.rateCeiling = 1_000_000_000
            $0.keyRotationInterval = .milliseconds(1)
            $0.keyActivationDelay = .milliseconds(1)
        }
        let member = bench.addMembers(1)[0]
        var generations: [UInt64] = []
        for _ in 0..<5000 {
            let number = bench.sendPacket(1)
            for plan in bench.plans { generations.append(plan.keyGeneration) }
            bench.acknowledge(member, [number...number])
            bench.advance(.microseconds(100))
        }
        #expect(generations == generations.sorted())
        #expect(generations.last! >= 4)
        #expect(bench.keys.count == Int(bench.flow.statistics.keysMade))
        #expect(Set(bench.keys.map(\.secret)).count == bench.keys.count)
    }

    @Test func trap10AReceiverThatTookTheKeyAndNeverListenedCostsTheKeyToo() {
        let world = World(seed: 101, configuration: Self.rotating)
        world.addReceiver()
        let taker = world.addReceiver()
        taker.isCut = true
        world.run(for: .milliseconds(200))
        #expect(taker.secrets.count == 1)
        #expect(world.flow.memberCount == 1)
        world.disconnect(taker)
        world.run(for: .seconds(12))
        #expect(world.flow.currentKey.generation == 1)
        #expect(world.problems == [])
    }

    // MARK: 11. Replicated unicast flow

    /// A flow that is announced with the receiver's own address comes in copies, and only to those who have joined: after a
    /// fall back the receiver joins again when its back-off is over, without hearing anything.
    @Test func trap11AReplicatedFlowIsJoinedAgainUnheard() throws {
        var now = Instant(nanoseconds: 1_000_000_000)
        var session = ReceiverSession(
            isNegotiated: true, maximumPathID: 4, seed: SeededRandom(seed: 1))
        var parameters = World.parameters
        parameters.group = IPAddress("198.51.100.7")!
        let frame = AnnounceFrame(flowID: World.flowID, sequence: 5, parameters: parameters)
        _ = try World.deliver(frame.encoded, to: &session)
        #expect(session.state(of: World.flowID) == .needsKey)
        ReceiverTableTests.key(&session, sequence: 3)
        _ = session.flowPacketOpened(World.flowID, generation: 3, packetNumber: 10, at: now)
        #expect(session.state(of: World.flowID) == .listening)

        now += .seconds(2)
        session.timerFired(at: now)
        #expect(session.state(of: World.flowID) == .left)
        while session.nextAction() != nil {}
        let again = session.nextDeadline
        #expect(again > now && again <= now + .seconds(1))
        session.timerFired(at: again)
        #expect(session.state(of: World.flowID) == .needsKey)
        #expect(session.nextDeadline == again + ReceiverConfiguration().answerTimeout)
    }

    /// One that hears nothing of the group is offered copies: the flow moves to its own address, keys and all.
    @Test func trap11AFlowMovesFromAGroupToCopies() throws {
        var (session, _) = ReceiverTableTests.session(in: .listening)
        while session.nextAction() != nil {}
        var parameters = World.parameters
        parameters.group = IPAddress("198.51.100.7")!
        let frame = AnnounceFrame(flowID: World.flowID, sequence: 6, parameters: parameters)
        _ = try World.deliver(frame.encoded, to: &session)
        var actions: [ReceiverAction] = []
        while let action = session.nextAction() { actions.append(action) }
        guard actions.count == 3, case .leaveGroup = actions[0], case .joinGroup(_, _, let group, _) = actions[1],
            case .installKey(_, let key) = actions[2]
        else {
            Issue.record("\(actions)")
            return
        }
        #expect(group == parameters.group)
        #expect(key.generation == 3)
        #expect(session.state(of: World.flowID) == .listening)
    }

    // MARK: 12. Who may inject

    @Test func trap12ControlFramesOnTheFlowAreAViolationAndForgeriesAreCounted() {
        var (session, now) = ReceiverTableTests.session(in: .listening)
        for type in [FlexicastFrameType.announce, FlexicastFrameType.state, FlexicastFrameType.key, 0x3e, 0x3f] {
            #expect(session.forbiddenOnFlow(type: type).code == .flexicastViolation)
        }
        #expect(session.forbiddenOnFlow(type: 0x02).code == .protocolViolation)
        for _ in 0..<1000 { session.flowPacketRejected(World.flowID, at: now) }
        #expect(session.statistics.packetsRejected == 1000)
        #expect(session.state(of: World.flowID) == .listening)
        // A forgery does not count as a sign of life.
        now += .seconds(2)
        session.flowPacketRejected(World.flowID, at: now)
        session.timerFired(at: now)
        #expect(session.state(of: World.flowID) == .left)
    }

    // MARK: 13. Fall back and return

    @Test(arguments: 1...6 as ClosedRange<UInt64>)
    func trap13FallBackAndReturnLoseNothing(seed: UInt64) {
        let world = World(seed: 130 + seed)
        let victim = world.addReceiver(loss: 0.02)
        for _ in 0..<3 { world.addReceiver(loss: 0.02) }
        world.run(for: .seconds(1))
        for step in 0..<300 {
            if step == 60 { victim.isCut = true }
            if step == 160 { victim.isCut = false }
            world.publish(Int(seed) * 700)
            world.run(for: .milliseconds(30))
        }
        #expect(world.settle())
        world.check()
        #expect(world.problems == [])
        #expect(victim.fallBacks.contains(.silence))
        #expect(victim.returns >= 1)
        #expect(victim.state == .listening)
        let viaFlow = victim.streams.values.filter { $0.viaUnicast == 0 }.count
        #expect(viaFlow > 100)
    }
}
