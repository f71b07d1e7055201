import Testing
import Wire

/// Against what a bucket is for: so many at once, and no more than the rate beyond those, in whatever time one looks at.
@Suite struct TokenBucketTests {
    private static let start = Instant(nanoseconds: 1_000_000_000)

    @Test func holdsItsBurstAndGathersOneAnInterval() {
        let rate = TokenRate(every: .seconds(5), burst: 3)
        var bucket = TokenBucket()
        var now = Self.start
        func takes(_ count: Int) -> [Bool] { (0..<count).map { _ in bucket.take(rate, at: now) } }
        #expect(takes(4) == [true, true, true, false])
        now += .seconds(5) - .nanoseconds(1)
        #expect(takes(1) == [false])
        now += .nanoseconds(1)
        #expect(bucket.hasToken(rate, at: now))
        #expect(takes(2) == [true, false])
        now += .seconds(10)
        #expect(takes(3) == [true, true, false])
        #expect(!bucket.isFull(at: now + .seconds(15) - .nanoseconds(1)))
        #expect(bucket.isFull(at: now + .seconds(15)))
        now += .seconds(1000)
        #expect(takes(4) == [true, true, true, false], "what is full gathers no more")
    }

    @Test(arguments: [(1, 1), (10, 10), (3, 7), (1000, 1), (32, 256)])
    func noTimeHasMoreThanTheBurstAndTheRate(perSecond: Int, burst: Int) {
        var random = SeededRandom(seed: UInt64(perSecond))
        let rate = TokenRate(perSecond: perSecond, burst: burst)
        let interval = Int64(1_000_000_000 / perSecond)
        var bucket = TokenBucket()
        var now = Self.start
        var taken: [Int64] = []
        for _ in 0..<3000 {
            now += .nanoseconds(Int64.random(in: 0...interval, using: &random))
            if Int.random(in: 0..<200, using: &random) == 0 { now += .nanoseconds(interval * Int64(burst)) }
            if bucket.take(rate, at: now) { taken.append(now.nanoseconds) }
        }
        // The last of so many came no sooner than the rate allows after the first.
        for index in taken.indices.dropFirst(burst) {
            #expect(taken[index] - taken[index - burst] >= interval)
        }
        let allowed = Int64(burst) + (now.nanoseconds - Self.start.nanoseconds) / interval
        #expect(taken.count > 1000 && taken.count <= allowed)
    }

    /// What a packet costs is known when it is there: the last may cost more than is left.
    @Test func whatIsTakenLastMayBeMoreThanThereIs() {
        var bucket = TokenBucket()
        let first = bucket.take(900, ifMissing: 250, at: Self.start)
        let second = bucket.take(1, ifMissing: 250, at: Self.start + .nanoseconds(649))
        let third = bucket.take(1, ifMissing: 250, at: Self.start + .nanoseconds(650))
        #expect(first && !second && third)
    }

    @Test func ratesOutOfRangeAreClamped() {
        let slow = TokenRate(every: .seconds(1 << 60), burst: .max)
        let fast = TokenRate(perSecond: .max, burst: .max)
        let none = TokenRate(perSecond: 0, burst: 0)
        #expect(none == TokenRate(perSecond: 1, burst: 1))
        for rate in [slow, fast, none] {
            var bucket = TokenBucket()
            let takes = (0..<3).map { _ in bucket.take(rate, at: Self.start) }
            #expect(takes[0])
            #expect(takes[2] == (rate == fast))
        }
    }
}
