import QUIC
import Testing
import Wire

@testable import Flexicast

/// What time alone brings about at the source, and what steady state costs.
@Suite struct ReliabilityTests {
    @Test func whatNobodyAcknowledgesIsRepairedBeforeTheMemberIsGivenUp() throws {
        let bench = Bench()
        let members = bench.addMembers(2)
        let number = bench.sendPacket(500)
        bench.actions.removeAll()
        // The first answers, the second is not heard of: its acknowledgements may be what is lost.
        for _ in 0..<20 {
            bench.advance(.milliseconds(100))
            bench.acknowledge(members[0], [0...(bench.flow.nextPacketNumber - 1)])
        }
        let repairs = bench.takeRepairs()
        #expect(repairs.map(\.member) == [members[1]])
        #expect(repairs.map(\.range) == [0..<500])
        #expect(bench.flow.isMember(members[1]))
        // Its late acknowledgement is welcome and settles nothing twice.
        bench.acknowledge(members[1], [number...number])
        #expect(bench.takeRepairs().isEmpty)
        #expect(bench.flow.octetsHeld == 0)
    }

    @Test func aMemberThatIsNeverHeardOfIsEvictedAfterTheTimeout() {
        let bench = Bench { $0.memberTimeout = .seconds(3) }
        let start = bench.now
        _ = bench.addMembers(1)
        bench.advance(.milliseconds(2900))
        #expect(bench.removals.isEmpty)
        bench.advance(.milliseconds(200))
        #expect(bench.removals.map(\.1) == [.silent])
        #expect(bench.now - start == .milliseconds(3100))
        // It is told and waited for no more.
        #expect(bench.flow.recordsHeld == 0)
    }

    @Test func aHoleNearTheEndIsFilledThoughNothingFollows() throws {
        let bench = Bench {
            $0.keepAliveInterval = .seconds(60)
            $0.tailProbeInterval = .seconds(60)
            $0.memberTimeout = .seconds(600)
        }
        let member = bench.addMembers(1)[0]
        for _ in 0..<3 { bench.sendPacket(200) }
        bench.actions.removeAll()
        bench.now += .milliseconds(20)
        // Packet 1 is one behind: not lost by counting, and no packet follows to count by.
        bench.acknowledge(member, [2...2, 0...0])
        #expect(bench.takeRepairs().isEmpty)
        bench.advance(.milliseconds(500))
        #expect(bench.takeRepairs().map(\.stream) == [1])
        #expect(bench.flow.octetsHeld == 0)
    }

    @Test func theIdleFlowIsProbedThenKeptAliveAndSilentWithoutAudience() {
        let bench = Bench()
        _ = bench.addMembers(1)
        bench.sendPacket()
        let before = bench.flow.statistics.pings
        bench.advance(.milliseconds(500))
        #expect(bench.flow.statistics.pings - before >= 4)
        let probes = bench.flow.statistics.pings
        bench.advance(.seconds(2))
        #expect((3...5).contains(bench.flow.statistics.pings - probes))
        bench.flow.detach()
        let end = bench.flow.statistics.pings
        bench.advance(.seconds(10))
        #expect(bench.flow.statistics.pings == end)
    }

    @Test func steadyStateHoldsItsMemory() throws {
        let bench = Bench()
        let members = bench.addMembers(3)
        var capacities: [Int] = []
        for _ in 0..<4 {
            for step in 0..<2000 {
                let number = bench.sendPacket(900)
                bench.actions.removeAll(keepingCapacity: true)
                // The last member is ten packets behind.
                for member in members[..<2] { bench.acknowledge(member, [0...number]) }
                if step % 10 == 9 { bench.acknowledge(members[2], [0...number]) }
            }
            capacities.append(bench.flow.log.capacity)
        }
        #expect(Set(capacities).count == 1)
        #expect(capacities[0] <= 512)
    }

    @Test func aWithdrawnFlowHandsEverythingOverAndFallsSilent() throws {
        let bench = Bench()
        let members = bench.addMembers(2)
        bench.sendPacket(400)
        _ = bench.flow.publish(StreamOctets([UInt8](repeating: 3, count: 700)))
        bench.actions.removeAll()
        bench.flow.withdraw(at: bench.now)
        let repairs = bench.takeRepairs()
        #expect(repairs.filter { $0.member == members[0] }.map(\.stream) == [0, 1])
        #expect(repairs.filter { $0.member == members[1] }.map(\.counted) == [false, true])
        #expect(bench.flow.nextDeadline == .distantFuture)
        #expect(bench.flow.recordsHeld == 0)
        let after = bench.flow.publish(StreamOctets([1]))
        #expect(!after.onFlow)
        #expect(bench.flow.add(streamWindow: .max, octets: .max, streams: .max, at: bench.now) == nil)
    }

    @Test func aStreamBegunBeforeAMemberCameIsNotRepairedToIt() throws {
        let bench = Bench { $0.rateCeiling = 1_000_000 }
        _ = bench.addMembers(1)
        // Paced: only part of it leaves now.
        _ = bench.flow.publish(StreamOctets([UInt8](repeating: 1, count: 200_000)))
        bench.transmit()
        #expect(bench.flow.queuedOctets > 0)
        let late = bench.addMembers(1)[0]
        bench.advance(.milliseconds(300))
        _ = bench.flow.publish(StreamOctets([UInt8](repeating: 2, count: 100)))
        bench.advance(.seconds(2))
        bench.actions.removeAll()
        bench.flow.leave(late, reason: .left, at: bench.now)
        #expect(bench.takeRepairs().allSatisfy { $0.stream == 1 })
    }

    @Test func membersAreBoundedAndSmallWindowsStayOnUnicast() {
        let bench = Bench { $0.maximumMembers = 2 }
        #expect(bench.flow.add(streamWindow: 1000, octets: .max, streams: .max, at: bench.now) == nil)
        _ = bench.addMembers(2)
        #expect(bench.flow.add(streamWindow: 1 << 30, octets: .max, streams: .max, at: bench.now) == nil)
        #expect(bench.flow.statistics.admissionsRefused == 2)
    }

    @Test func theQueueIsBounded() {
        let bench = Bench { $0.maximumQueuedOctets = 10_000 }
        _ = bench.addMembers(1)
        let item = [UInt8](repeating: 0, count: 3000)
        let onFlow = (0..<5).map { _ in bench.flow.publish(StreamOctets(item)).onFlow }
        #expect(onFlow == [true, true, true, false, false])
        #expect(bench.flow.statistics.streamsOffFlow == 2)
    }

    @Test func packetsAreWrittenAsQUICShortHeaderPackets() throws {
        let bench = Bench()
        _ = bench.addMembers(1)
        _ = bench.flow.publish(StreamOctets([UInt8](repeating: 9, count: 5000)))
        bench.transmit()
        let full = bench.plans.dropLast()
        #expect(full.allSatisfy { $0.end - $0.start == 1200 })
        for plan in bench.plans {
            #expect(plan.packetNumberOffset == plan.start + 1 + World.flowID.count)
            #expect(plan.packetNumberLength == 4)
            #expect(plan.pathID == 0)
            #expect(plan.level == .application)
            // Room for the header protection sample (RFC 9001 section 5.4.2).
            #expect(plan.end >= plan.packetNumberOffset + 4 + 16)
        }
    }
}
