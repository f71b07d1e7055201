import Testing
import Wire

@testable import QUIC

@Suite("Path MTU discovery (RFC 8899, RFC 9000 section 14.3)")
struct PathMTUTests {
    /// Probes a path that carries `limit` octets until the search rests; returns the probes.
    private func search(_ mtu: inout PathMTU, limit: Int, at now: Instant) -> [Int] {
        var probes: [Int] = []
        while let size = mtu.probeSize(at: now), probes.count < 100 {
            #expect(size > mtu.current && size <= mtu.ceiling)
            mtu.probeSent(size, in: 0)
            #expect(mtu.probeSize(at: now) == nil, "one probe at a time")
            probes.append(size)
            if size <= limit { mtu.probeAcknowledged(0) } else { mtu.probeLost(0) }
        }
        return probes
    }

    @Test func mostPathsTakeOneProbe() {
        var mtu = PathMTU()
        #expect(mtu.current == 1200)
        #expect(search(&mtu, limit: 1500, at: at(0)) == [1452])
        #expect(mtu.current == 1452)
        #expect(mtu.nextProbeAt == nil)
    }

    @Test("finds what the path carries", arguments: [1200, 1201, 1232, 1280, 1333, 1400, 1451, 1452], [1452, 9000])
    func finds(limit: Int, ceiling: Int) {
        var mtu = PathMTU(ceiling: ceiling)
        let probes = search(&mtu, limit: limit, at: at(0))
        #expect(mtu.current <= limit)
        #expect(mtu.current > limit - PathMTU.precision)
        #expect(probes.count <= 40)
    }

    /// What paths carry, with the probes that find it out: each size that is lost was tried three times.
    @Test(
        "goes up by steps",
        arguments: [
            (1500, 1472, [1452, 1472, 8952, 8952, 8952]), (9000, 8972, [1452, 1472, 8952, 8972]),
            (8960, 8952, [1452, 1472, 8952, 8972, 8972, 8972]),
            (1452, 1452, [1452, 1472, 1472, 1472, 1462, 1462, 1462]),
        ])
    func steps(limit: Int, found: Int, probes: [Int]) {
        var mtu = PathMTU(ceiling: ConnectionConfiguration.datagramSizeLimit)
        #expect(search(&mtu, limit: limit, at: at(0)) == probes)
        #expect(mtu.current == found)
        #expect(mtu.nextSize(at: at(0)) == nil)
        #expect(search(&mtu, limit: limit, at: at(0)) == [], "the search rests")
    }

    @Test func itSaysBeforehandHowLargeAProbeIs() {
        var mtu = PathMTU(ceiling: 8972)
        var now = at(0)
        for _ in 0..<12 {
            let next = mtu.nextSize(at: now)
            #expect(mtu.probeSize(at: now) == next)
            guard let next else {
                // Asking has set the time of the next search, if there is one.
                guard let again = mtu.nextProbeAt else { break }
                now = again
                continue
            }
            mtu.probeSent(next, in: 0)
            #expect(mtu.nextSize(at: now) == nil)
            if next <= 1472 { mtu.probeAcknowledged(0) } else { mtu.probeLost(0) }
        }
        #expect(now > at(600_000))
    }

    @Test func aSizeIsTriedThreeTimes() {
        var mtu = PathMTU(ceiling: 1452)
        #expect(search(&mtu, limit: 1200, at: at(0)).prefix(4) == [1452, 1452, 1452, 1326])
    }

    /// What is between what passes and what does not is looked into while it is more than sixteen octets.
    @Test(arguments: [(1216, [1216, 1216, 1216]), (1217, [1217, 1217, 1217, 1208, 1208, 1208])])
    func sixteenOctetsAreCloseEnough(ceiling: Int, probes: [Int]) {
        var mtu = PathMTU(ceiling: ceiling)
        #expect(search(&mtu, limit: 1200, at: at(0)) == probes)
    }

    @Test func aLossOrTwoDoNotMisleadIt() {
        var mtu = PathMTU()
        for _ in 0..<2 {
            mtu.probeSent(1452, in: 0)
            mtu.probeLost(0)
        }
        #expect(mtu.probeSize(at: at(0)) == 1452)
        mtu.probeSent(1452, in: 0)
        mtu.probeAcknowledged(0)
        #expect(mtu.current == 1452)
    }

    @Test func itTriesAgainAfterTenMinutes() throws {
        var mtu = PathMTU()
        _ = search(&mtu, limit: 1300, at: at(0))
        let found = mtu.current
        let again = try #require(mtu.nextProbeAt)
        #expect(again == at(600_000))
        #expect(mtu.probeSize(at: at(599_999)) == nil)
        #expect(search(&mtu, limit: 1500, at: again) == [1452])
        #expect(mtu.current == 1452 && found < 1452)
    }

    @Test func aBlackHoleFallsBack() {
        var mtu = PathMTU()
        _ = search(&mtu, limit: 1500, at: at(0))
        #expect(mtu.isBlackHole(largeLosses: 7, timeouts: 2) == false)
        #expect(mtu.current == 1452)
        #expect(mtu.isBlackHole(largeLosses: 8, timeouts: 0) == true)
        #expect(mtu.current == 1200)
        #expect(mtu.isBlackHole(largeLosses: 8, timeouts: 5) == false, "there is nowhere lower to go")
        #expect(mtu.probeSize(at: at(1000)) == nil)
        #expect(mtu.nextProbeAt == at(61_000))
        #expect(search(&mtu, limit: 1500, at: at(61_000)) == [1452])
        #expect(mtu.isBlackHole(largeLosses: 0, timeouts: 3) == true)
    }

    @Test func theCeilingMayMove() {
        var mtu = PathMTU()
        _ = search(&mtu, limit: 1500, at: at(0))
        mtu.ceiling = 1300
        #expect(mtu.current == 1300)
        #expect(mtu.probeSize(at: at(0)) == nil)
        mtu.ceiling = 8000
        #expect(search(&mtu, limit: 9000, at: at(0)) == [1452, 1472, 8000])
        mtu.ceiling = 100
        #expect(mtu.current == 1200 && mtu.ceiling == 1200)
    }

    /// Loses as many probes of one size as it takes to give it up (RFC 8899 section 5.1.2, MAX_PROBES), from a search that
    /// is about to send one.
    private func giveUp(_ size: Int, _ mtu: inout PathMTU, at now: Instant = at(0)) {
        for _ in 0..<3 {
            #expect(mtu.probeSize(at: now) == size)
            mtu.probeSent(size, in: 0)
            mtu.probeLost(0)
        }
        #expect(mtu.probeSize(at: now) != size)
    }

    /// Losses of one search, or of one size, do not count in the next (RFC 8899 section 5.3.2: the count begins with the
    /// size that is probed).
    @Test func lossesCountForTheSizeThatIsTried() {
        var mtu = PathMTU(ceiling: 1500)
        func loseTwo(of size: Int, at now: Instant) {
            for _ in 0..<2 {
                #expect(mtu.probeSize(at: now) == size)
                mtu.probeSent(size, in: 0)
                mtu.probeLost(0)
            }
        }
        loseTwo(of: 1452, at: at(0))
        mtu.probeSent(1452, in: 0)
        mtu.probeAcknowledged(0)
        giveUp(1472, &mtu)
        // A ceiling that moves begins anew.
        mtu.ceiling = 1480
        loseTwo(of: 1472, at: at(0))
        mtu.ceiling = 1490
        giveUp(1472, &mtu)
        // So does a search after a black hole, whatever was lost before.
        mtu.ceiling = 1500
        loseTwo(of: 1472, at: at(0))
        #expect(mtu.isBlackHole(largeLosses: 8, timeouts: 0) == true)
        #expect(mtu.probeSize(at: at(0)) == nil)
        giveUp(1452, &mtu, at: at(60_000))
    }

    /// What is heard of a probe of another path, or of before the ceiling moved, says nothing of the one under way.
    @Test func onlyTheProbeUnderWayCounts() {
        var mtu = PathMTU(ceiling: 9000)
        mtu.probeSent(1452, in: 7)
        mtu.ceiling = 8000
        for _ in 0..<3 { mtu.probeLost(7) }
        mtu.probeAcknowledged(7)
        #expect(mtu.current == 1200)
        #expect(mtu.probeSize(at: at(0)) == 1452)
        mtu.probeSent(1452, in: 9)
        for _ in 0..<3 { mtu.probeLost(7) }
        mtu.probeAcknowledged(8)
        #expect(mtu.current == 1200)
        #expect(mtu.probeSize(at: at(0)) == nil, "it is still under way")
        mtu.probeAcknowledged(9)
        #expect(mtu.current == 1452)
        mtu.probeAcknowledged(9)
        mtu.probeLost(9)
        #expect(search(&mtu, limit: 1500, at: at(0)) == [1472, 8000, 8000, 8000])
    }

    @Test func whatIsUnderWayHoldsNothingUp() {
        var mtu = PathMTU(ceiling: 9000)
        mtu.probeSent(1452, in: 0)
        mtu.ceiling = 1400
        #expect(mtu.nextSize(at: at(0)) == 1400)
        #expect(mtu.probeSize(at: at(0)) == 1400)
        mtu.probeSent(1400, in: 0)
        mtu.probeAcknowledged(0)
        mtu.ceiling = 9000
        mtu.probeSent(1452, in: 0)
        #expect(mtu.isBlackHole(largeLosses: 8, timeouts: 0) == true)
        #expect(mtu.probeSize(at: at(0)) == nil)
        #expect(mtu.probeSize(at: at(60_000)) == 1452)
    }

    /// A black hole ends a search and a rest (RFC 8899 section 5.2: back to Base); a later search finds the way up again
    /// and rests as long as ever.
    @Test func aBlackHoleMaySwallowASearchOrARest() {
        var mtu = PathMTU(ceiling: 9000)
        mtu.probeSent(1452, in: 0)
        mtu.probeAcknowledged(0)
        #expect(mtu.isBlackHole(largeLosses: 0, timeouts: 3) == true)
        #expect(mtu.probeSize(at: at(0)) == nil, "the search is over")
        #expect(mtu.nextProbeAt == at(60_000))
        #expect(mtu.probeSize(at: at(60_000)) == 1452)
        #expect(mtu.nextProbeAt == nil, "the search goes on")
        _ = search(&mtu, limit: 1500, at: at(60_000))
        #expect(mtu.current == 1472)
        #expect(mtu.nextProbeAt == at(660_000))
        #expect(mtu.isBlackHole(largeLosses: 8, timeouts: 0) == true)
        #expect(mtu.probeSize(at: at(100_000)) == nil)
        #expect(mtu.nextProbeAt == at(160_000))
    }

    @Test func whatIsNoneOfItsBusinessChangesNothing() {
        var mtu = PathMTU(ceiling: 9000)
        _ = search(&mtu, limit: 1500, at: at(0))
        mtu.ceiling = 9000
        #expect(mtu.nextProbeAt == at(600_000))
        // There is nothing to look for below 1200 octets.
        for ceiling in [100, 1200] {
            mtu = PathMTU(ceiling: ceiling)
            #expect(mtu.ceiling == 1200 && mtu.current == 1200)
            #expect(mtu.nextSize(at: at(0)) == nil)
            #expect(mtu.probeSize(at: at(0)) == nil)
        }
        // Above the largest step is the ceiling.
        mtu = PathMTU(ceiling: 65_000)
        #expect(search(&mtu, limit: 65_535, at: at(0)) == [1452, 1472, 8952, 8972, 65_000])
    }

    /// Random paths, losses, ceilings, black holes and times, beside what RFC 8899 asks of a search.
    @Test(arguments: 0..<60 as Range<UInt64>)
    func aSearchKeepsItsWord(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var now = at(0)
        var mtu = PathMTU(ceiling: 1200 + Int(random.next() % 9000))
        /// What the path carries; what has passed; what was lost three times in a row, and how often the last one was.
        var limit = 1200 + Int(random.next() % (seed % 2 == 0 ? 300 : 9000))
        var passed = 1200
        var given: Int?
        var lost = (size: 0, times: 0)
        var interval = 600_000 as Int64
        let steps = [1452, 1472, 8952, 8972]
        func begin() { (given, lost) = (nil, (0, 0)) }
        for _ in 0..<400 {
            #expect(mtu.current == min(passed, mtu.ceiling))
            let next = mtu.nextSize(at: now)
            let size = mtu.probeSize(at: now)
            #expect(next == size)
            switch random.next() % 40 {
            case 0:
                mtu.ceiling = 1200 + Int(random.next() % 9000)
                passed = min(passed, mtu.ceiling)
                begin()
            case 1:
                let isHole = mtu.isBlackHole(largeLosses: 8, timeouts: 0)
                #expect(isHole == (passed > 1200))
                if isHole { (passed, interval) = (1200, 60_000) }
                // Whatever it is now, it rests until then.
                if isHole {
                    #expect(mtu.probeSize(at: now) == nil)
                    #expect(mtu.nextProbeAt == now + .milliseconds(interval))
                }
            case 2: limit = max(passed, 1200 + Int(random.next() % 9000))
            default: break
            }
            guard let size = mtu.probeSize(at: now) else {
                guard mtu.current < mtu.ceiling else {
                    #expect(mtu.nextProbeAt == nil)
                    continue
                }
                guard let again = mtu.nextProbeAt else {
                    Issue.record("nothing is tried and no time is set")
                    return
                }
                // Known as closely as it is worth, or to a step.
                if interval == 600_000 {
                    let given = given ?? .max
                    #expect(passed < 1472 ? given - passed <= 16 : !steps.contains { $0 > passed && $0 < given })
                    #expect(given <= mtu.ceiling)
                }
                #expect(again == now + .milliseconds(interval))
                #expect(mtu.probeSize(at: again - .nanoseconds(1)) == nil)
                now = again
                interval = 600_000
                begin()
                continue
            }
            #expect(size > passed && size <= mtu.ceiling)
            if let given {
                #expect(size < given)
                #expect(steps.contains(size) || passed < 1472 && given - passed > 16)
            }
            mtu.probeSent(size, in: 0)
            #expect(mtu.probeSize(at: now) == nil)
            #expect(mtu.nextSize(at: now) == nil)
            if size <= limit, random.next() % 10 > 0 {
                mtu.probeAcknowledged(0)
                passed = size
                lost = (0, 0)
            } else {
                mtu.probeLost(0)
                lost = (size, lost.size == size ? lost.times + 1 : 1)
                if lost.times == 3 { (given, lost) = (size, (0, 0)) }
                // Once or twice is not enough.
                if lost.times > 0 { #expect(mtu.nextSize(at: now) == size) }
            }
        }
    }
}
