import Testing
import Wire

@testable import Objects

/// Objects that are worth nothing from some time on.
@Suite struct LogLifetimeTests {
    private static func time(_ seconds: Int64) -> Instant { Instant(nanoseconds: seconds * 1_000_000_000) }

    @Test func whatHasEndedIsAGap() throws {
        var log = try LogTests.log()
        _ = try log.append(body: [0], published: noon)
        #expect(try log.append(body: LogTests.big, published: noon, until: Self.time(5)) == 1..<4)
        _ = try log.append(body: [4], published: noon, until: Self.time(3))
        _ = try log.append(body: [5], published: noon)
        #expect(log.nextLifetimeEnd == Self.time(3))
        var ended = log.endLifetime(at: Self.time(2))
        #expect(ended == nil)
        ended = log.endLifetime(at: Self.time(3))
        #expect(ended?.numbers == 4..<5 && ended?.wasOpen == false)
        #expect(log.part(at: 4) == .gone(Gap(first: 4, count: 1, reason: .lifetime)))
        ended = log.endLifetime(at: Self.time(9))
        #expect(ended?.numbers == 1..<4)
        ended = log.endLifetime(at: Self.time(9))
        #expect(ended == nil && log.nextLifetimeEnd == nil)
        #expect(log.part(at: 2) == .gone(Gap(first: 2, count: 3, reason: .lifetime)))
        #expect(log.objectCount == 2 && log.statistics.objectsExpired == 2 && log.checkInvariants() == nil)
        #expect(log.read(Cursor(position: 1)) == .gap(Gap(first: 1, count: 4, reason: .lifetime)))
    }

    /// One that is open ends as well: it takes nothing more, and the next may begin.
    @Test func anOpenObjectEnds() throws {
        var log = try LogTests.log()
        try log.begin(published: noon, until: Self.time(1))
        // Nothing of it is there yet; the next begins with the same number, and is not taken for it.
        var ended = log.endLifetime(at: Self.time(1))
        #expect(ended?.numbers.isEmpty == true && !log.isObjectOpen)
        try log.begin(published: noon, until: Self.time(7))
        try log.append(part: [1])
        try log.append(part: [2])
        ended = log.endLifetime(at: Self.time(6))
        #expect(ended == nil)
        ended = log.endLifetime(at: Self.time(7))
        #expect(ended?.numbers == 0..<2 && ended?.wasOpen == true)
        #expect(throws: LogError.noObjectOpen) { try log.append(part: [3]) }
        #expect(try log.append(body: [3], published: noon) == 2..<3)
        #expect(log.checkInvariants() == nil && log.objectCount == 1)
    }

    /// A clock of this process means nothing to the next: what has an end is not kept for it.
    @Test func theStoreKeepsNoneOfThem() throws {
        var log = try LogTests.log()
        _ = try log.append(body: [0], published: noon)
        _ = try log.append(body: [1], published: noon, until: Self.time(5))
        try log.begin(published: noon, until: Self.time(5))
        try log.append(part: [2])
        try log.finish([3])
        _ = try log.append(body: [4], published: noon)
        let store = try #require(log.store as? KeepingStore)
        #expect(store.stored.parts.map(\.sequence) == [0, 4])
        let again = try ObjectLog(store)
        #expect(again.part(at: 1) == .void(Gap(first: 1, count: 3, reason: .void)) && again.nextLifetimeEnd == nil)
    }

    /// Against what each number is said to be, whatever else happens to the log.
    @Test(arguments: seeds)
    func aWalkAgreesWithAModel(seed: UInt64) throws {
        enum State: Equatable { case kept, void, expired }
        struct Object {
            var numbers: Range<UInt64>
            var end: Instant?
        }
        var dice = SeededRandom(seed: seed)
        let limit = 12
        var log = try LogTests.log(Retention(objects: limit))
        var states: [State] = []
        var objects: [Object] = []
        var open: Object?
        var now = Self.time(0)
        func anEnd() -> Instant? {
            dice.below(3) == 0 ? nil : now + .milliseconds(Int64(dice.below(dice.below(4) == 0 ? 60_000 : 400)))
        }
        for step in 0..<600 {
            let before = states.count
            switch dice.below(10) {
            case 0..<4 where open == nil:
                let end = anEnd()
                let body = dice.below(4) == 0 ? LogTests.big : [1]
                let numbers = try log.append(body: body, published: noon, until: end)
                #expect(numbers == UInt64(states.count)..<(UInt64(states.count) + (body.count == 1 ? 1 : 3)))
                states += numbers.map { _ in .kept }
                objects.append(Object(numbers: numbers, end: end))
            case 4 where open == nil:
                let end = anEnd()
                let first = try log.begin(published: noon, until: end)
                open = Object(numbers: first..<first, end: end)
            case 4..<7:
                guard var object = open else { continue }
                let isLast = dice.below(3) == 0
                if isLast { try log.finish([1]) } else { try log.append(part: [1]) }
                states.append(.kept)
                object.numbers = object.numbers.lowerBound..<UInt64(states.count)
                open = isLast ? nil : object
                if isLast { objects.append(object) }
            case 7:
                guard let object = open, dice.below(3) == 0 else { continue }
                _ = log.abandon()
                for number in object.numbers { states[Int(number)] = .void }
                open = nil
            default:
                now += .milliseconds(Int64(dice.below(100)))
                var due = objects.filter { $0.end.map { $0 <= now } ?? false }
                objects.removeAll { $0.end.map { $0 <= now } ?? false }
                if let object = open, let end = object.end, end <= now {
                    due.append(object)
                    open = nil
                }
                var ended: [Range<UInt64>] = []
                while let range = log.endLifetime(at: now) { ended.append(range.numbers) }
                for object in due { for number in object.numbers { states[Int(number)] = .expired } }
                let wanted = Set(due.map(\.numbers).filter { !$0.isEmpty })
                #expect(Set(ended.filter { !$0.isEmpty }) == wanted, "seed \(seed), step \(step)")
            }
            // Retention is applied as parts are published.
            if states.count > before { while objects.count + (open == nil ? 0 : 1) > limit { objects.removeFirst() } }
            try #require(log.checkInvariants() == nil, "seed \(seed), step \(step)")
            for number in UInt64(0)..<log.next {
                let isKept = objects.contains { $0.numbers.contains(number) } || open?.numbers.contains(number) == true
                switch log.part(at: number) {
                case .part(let part): try #require(isKept && part.sequence == number, "seed \(seed), step \(step)")
                case .gone(let gap) where gap.reason == .lifetime:
                    try #require(gap.first == number)
                    // What lies between two of them, and is nothing, may be taken for the same.
                    for number in gap.range { try #require(states[Int(number)] != .kept || number < log.oldest) }
                    try #require(
                        states[Int(number)] != .kept || objects.isEmpty || number < objects[0].numbers.lowerBound)
                case .gone: try #require(number < log.oldest && !isKept)
                case .void(let gap):
                    for number in gap.range { try #require(states[Int(number)] == .void, "seed \(seed), step \(step)") }
                case .stored, .beyond: Issue.record("\(number) is not beyond, and in memory")
                }
            }
            #expect(log.forgotten.count <= log.partCount + 1)
            #expect(log.lifetimes.count <= 2 * log.objectCount + 66)
        }
    }
}
