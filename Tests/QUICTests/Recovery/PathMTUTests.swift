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
            mtu.probeSent(size)
            #expect(mtu.probeSize(at: now) == nil, "one probe at a time")
            probes.append(size)
            if size <= limit { mtu.probeAcknowledged(size) } else { mtu.probeLost(size) }
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
            mtu.probeSent(next)
            #expect(mtu.nextSize(at: now) == nil)
            if next <= 1472 { mtu.probeAcknowledged() } else { mtu.probeLost() }
        }
        #expect(now > at(600_000))
    }

    @Test func aSizeIsTriedThreeTimes() {
        var mtu = PathMTU(ceiling: 1452)
        #expect(search(&mtu, limit: 1200, at: at(0)).prefix(4) == [1452, 1452, 1452, 1326])
    }

    @Test func aLossOrTwoDoNotMisleadIt() {
        var mtu = PathMTU()
        for _ in 0..<2 {
            mtu.probeSent(1452)
            mtu.probeLost()
        }
        #expect(mtu.probeSize(at: at(0)) == 1452)
        mtu.probeSent(1452)
        mtu.probeAcknowledged()
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
}
