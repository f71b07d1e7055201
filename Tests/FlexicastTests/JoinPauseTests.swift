import QUIC
import Testing
import Wire

@testable import Flexicast

/// Who has been put out of the flow waits, and a new connection does not shorten it.
@Suite("Pauses by account") struct JoinPauseTests {
    private static let start = Instant(nanoseconds: 1_000_000_000)
    private static let account = FlowAccount(.v4(0xc000_0209))

    @Test func aPauseDoublesAndIsForgotten() {
        var pauses = JoinPauses()
        var now = Self.start
        #expect(pauses.mayJoin(Self.account, at: now))
        var waits: [Duration] = []
        for _ in 0..<9 {
            pauses.evicted(Self.account, at: now)
            let begun = now
            while !pauses.mayJoin(Self.account, at: now) { now += .seconds(1) }
            waits.append(now - begun)
        }
        #expect(waits == [2, 4, 8, 16, 32, 64, 120, 120, 120].map { .seconds($0) })
        now += JoinPauses.memory
        pauses.evicted(Self.account, at: now)
        #expect(!pauses.mayJoin(Self.account, at: now + .seconds(1)))
        #expect(pauses.mayJoin(Self.account, at: now + .seconds(2)), "after a good while it begins again")
        #expect(pauses.mayJoin(FlowAccount(.v4(0xc000_020a)), at: now), "another has nothing to wait for")
    }

    /// Behind one address there may be many: those put out count by their share.
    @Test func manyGoodMembersAnswerForAFew() {
        var pauses = JoinPauses()
        let now = Self.start
        for _ in 0..<40 { pauses.admitted(Self.account) }
        for failed in 1...5 {
            pauses.left(Self.account)
            pauses.evicted(Self.account, at: now)
            #expect(pauses.mayJoin(Self.account, at: now) == (failed * JoinPauses.membersPerEviction <= 40 - failed))
        }
        #expect(!pauses.mayJoin(Self.account, at: now + .seconds(1)))
        #expect(pauses.mayJoin(Self.account, at: now + .seconds(2)), "five at once are one failure")
    }

    @Test func theTableIsBounded() {
        var pauses = JoinPauses()
        let extra = 10
        for number in 0..<UInt32(JoinPauses.mostAccounts + extra) {
            pauses.evicted(FlowAccount(.v4(number)), at: Self.start + .milliseconds(Int64(number)))
        }
        #expect(pauses.count == JoinPauses.mostAccounts)
        #expect(pauses.forgotten == UInt64(extra))
        let last = UInt32(JoinPauses.mostAccounts + extra - 1)
        #expect(!pauses.mayJoin(FlowAccount(.v4(last)), at: Self.start + .milliseconds(Int64(last))))
    }

    @Test func aNewConnectionDoesNotShortenThePause() throws {
        let world = World(seed: 41)
        world.receiverConfiguration.firstBackOff = .milliseconds(100)
        world.addReceiver().link.remoteAddress = SocketAddress("192.0.2.50:1")!
        let evicted = world.addReceiver()
        world.run(for: .seconds(1))
        let member = try #require(world.member(evicted))
        world.server.withFlow { $0.evict(member, reason: .silent, at: world.now) }
        world.pump()
        world.disconnect(evicted)

        let again = world.addReceiver()
        let other = world.addReceiver()
        other.link.remoteAddress = SocketAddress("192.0.2.77:4000")!
        world.run(for: .seconds(1))
        #expect(world.member(again) == nil, "the same address waits")
        #expect(world.member(other) != nil, "another does not")
        #expect(world.server.joinsRefused == 1)
        var notices: [ServerNotice] = []
        while let notice = world.server.nextNotice() { notices.append(notice) }
        #expect(notices.contains { if case .joinRefused(again.id) = $0 { true } else { false } })
        world.run(for: .seconds(15))
        #expect(world.member(again) != nil, "until the pause is over")
    }

    /// Who has no credit for the flow is told so, and pays for having tried.
    @Test func whoCannotBeAMemberIsToldWhy() {
        let world = World(seed: 42)
        world.creditOctets = 0
        let poor = world.addReceiver()
        world.run(for: .seconds(1))
        #expect(world.member(poor) == nil)
        var reasons: [String] = []
        while let notice = world.server.nextNotice() {
            if case .notAdmitted(poor.id, let reason) = notice { reasons.append(reason) }
        }
        #expect(reasons.first?.contains("allows 0 octets") == true, "\(reasons)")
        #expect(!world.server.pauses.mayJoin(FlowAccount(poor.link.remoteAddress.address), at: world.now))
    }
}
