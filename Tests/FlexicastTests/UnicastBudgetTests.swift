import Objects
import QUIC
import Testing
import Wire

@testable import Flexicast

/// What leaves on connections against a rate: the most that any stretch of time has carried beyond it.
struct RateWatch {
    let bitsPerSecond: Double
    private var beyond = 0.0
    private var at: Instant?
    private(set) var most = 0.0

    init(bitsPerSecond: Double) { self.bitsPerSecond = bitsPerSecond }

    mutating func left(_ octets: Int, at now: Instant) {
        if let at { beyond = max(0, beyond - Double((now - at).nanoseconds) * bitsPerSecond / 8e9) }
        at = now
        beyond += Double(octets)
        most = max(most, beyond)
    }
}

@Suite struct UnicastBudgetTests {
    static let start = Instant(nanoseconds: 1_000_000_000)
    static let largest = 10_000
    static let rate: UInt64 = 8_000_000

    static func account(_ number: Int) -> FlowAccount { FlowAccount(.v4(UInt32(number))) }

    /// Receivers that are never done, each with parts of one size.
    struct Crowd {
        var budget: UnicastBudget
        var now = UnicastBudgetTests.start
        let sizes: [Int]
        let accounts: [Int]
        var received: [Int]
        var turns = 0
        /// Parts after which a receiver wants nothing for the time being; then it asks again.
        var rest: Int?

        init(sizes: [Int], accounts: [Int], rest: Int? = nil) {
            budget = UnicastBudget(
                rate: UnicastBudgetTests.rate, largestPart: UnicastBudgetTests.largest, at: now)
            (self.sizes, self.accounts, self.rest) = (sizes, accounts, rest)
            received = Array(repeating: 0, count: sizes.count)
            for slot in sizes.indices { budget.wait(slot, account: UnicastBudgetTests.account(accounts[slot])) }
        }

        mutating func run(for duration: Duration, _ left: (Int, Instant) -> Void = { _, _ in }) {
            let end = now + duration
            while budget.nextTurn <= end {
                now = max(now, budget.nextTurn)
                while let slot = budget.beginTurn(at: now) {
                    turns += 1
                    var parts = 0
                    while budget.allowance(slot)! >= sizes[slot], parts < rest ?? .max {
                        budget.spend(slot, sizes[slot])
                        received[slot] += sizes[slot]
                        left(sizes[slot], now)
                        parts += 1
                    }
                    let isDone = parts == rest
                    budget.endTurn(slot, isWanting: !isDone)
                    if isDone { budget.wait(slot, account: UnicastBudgetTests.account(accounts[slot])) }
                }
            }
            now = end
        }

        func received(by account: Int) -> Int {
            received.indices.reduce(0) { $0 + (accounts[$1] == account ? received[$1] : 0) }
        }
    }

    @Test func noWindowCarriesMoreThanTheRateAndABurst() {
        var random = SeededRandom(seed: 1)
        for _ in 0..<20 {
            let sizes = (0..<50).map { _ in Int.random(in: 1...Self.largest, using: &random) }
            var crowd = Crowd(sizes: sizes, accounts: sizes.map { _ in Int.random(in: 0..<10, using: &random) })
            var watch = RateWatch(bitsPerSecond: Double(Self.rate) * 0.9)
            var octets = 0
            for _ in 0..<30 {
                crowd.run(for: .milliseconds(Int64.random(in: 1...300, using: &random))) {
                    watch.left($0, at: $1)
                    octets += $0
                }
            }
            // A hundred milliseconds of nine tenths of the rate.
            #expect(watch.most <= 90_001)
            let seconds = Double((crowd.now - Self.start).nanoseconds) / 1e9
            #expect(Double(octets) > seconds * Double(Self.rate) * 0.9 / 8 - 20_000, "nothing goes to waste")
        }
    }

    @Test func repairsGoAtOnceAndCursorsMakeRoom() {
        var crowd = Crowd(sizes: [5000, 5000], accounts: [0, 1])
        var watch = RateWatch(bitsPerSecond: Double(Self.rate))
        var octets = 0
        // Half the rate.
        for _ in 0..<500 {
            crowd.budget.charge(5000, at: crowd.now)
            watch.left(5000, at: crowd.now)
            crowd.run(for: .milliseconds(10)) {
                watch.left($0, at: $1)
                octets += $0
            }
        }
        #expect(watch.most <= 105_001)
        #expect(abs(octets - 2_500_000) < 150_000)
        // A tenth of the rate is theirs for nothing.
        octets = 0
        crowd.run(for: .seconds(1))
        for _ in 0..<500 {
            crowd.budget.charge(1000, at: crowd.now)
            crowd.run(for: .milliseconds(10)) { size, _ in octets += size }
        }
        #expect(abs(octets - 4_500_000) < 150_000)
    }

    @Test func anAccountOfManyHasAsMuchAsOneOfOne() {
        // The many have small parts, and want one at a time or all that they may.
        for rest in [nil, 1] {
            for manySize in [1000, 9000] {
                var crowd = Crowd(
                    sizes: Array(repeating: manySize, count: 100) + [7001, 10_000],
                    accounts: Array(repeating: 0, count: 100) + [1, 2], rest: rest)
                crowd.run(for: .seconds(20))
                let shares = (0..<3).map { crowd.received(by: $0) }
                guard rest == nil else {
                    // Who asks for little at a time has less of a turn, the account of many has not.
                    #expect(shares[0] + 2 * Self.largest >= shares.max()!, "\(shares)")
                    continue
                }
                #expect(shares.max()! - shares.min()! <= 2 * Self.largest, "\(shares)")
                let own = crowd.received[..<100]
                #expect(own.max()! - own.min()! <= 2 * Self.largest, "\(own)")
            }
        }
    }

    @Test func nobodyStarves() {
        var random = SeededRandom(seed: 2)
        let sizes = (0..<200).map { _ in Int.random(in: 1...Self.largest, using: &random) }
        let accounts = sizes.map { _ in Int.random(in: 0..<7, using: &random) }
        var crowd = Crowd(sizes: sizes, accounts: accounts)
        // So many turns that each receiver has had one.
        let most = (0..<7).map { account in accounts.count { $0 == account } }.max()!
        while crowd.turns < most * 7 { crowd.run(for: .milliseconds(10)) }
        #expect(crowd.received.allSatisfy { $0 > 0 })
    }

    // MARK: A model

    /// The same without thought for cost.
    struct Model {
        struct Account {
            var number: Int
            var waiting: [Int] = []
            var deficit = 0
            var goesOn = false
            var turn: (slot: Int, granted: Int, left: Int)?
        }

        let quantum: Int
        /// In the order of their turns; those that have one are at the end.
        var accounts: [Account] = []

        func account(of slot: Int) -> Int? {
            accounts.firstIndex { $0.waiting.contains(slot) || $0.turn?.slot == slot }
        }

        mutating func wait(_ slot: Int, _ number: Int) {
            guard account(of: slot) == nil else { return }
            if let index = accounts.firstIndex(where: { $0.number == number }) {
                accounts[index].waiting.append(slot)
            } else {
                let place = accounts.firstIndex { $0.turn != nil } ?? accounts.count
                accounts.insert(Account(number: number, waiting: [slot]), at: place)
            }
        }

        mutating func begin() -> (slot: Int, octets: Int)? {
            guard var first = accounts.first, first.turn == nil else { return nil }
            let octets = first.deficit + (first.goesOn ? 0 : quantum)
            let slot = first.waiting.removeFirst()
            first.turn = (slot, octets, octets)
            accounts.removeFirst()
            accounts.append(first)
            return (slot, octets)
        }

        mutating func end(_ slot: Int, isWanting: Bool) {
            guard let index = accounts.firstIndex(where: { $0.turn?.slot == slot }) else { return }
            var account = accounts.remove(at: index)
            let turn = account.turn!
            account.turn = nil
            if isWanting {
                let isFirst = account.goesOn && turn.left == turn.granted
                account.waiting.insert(slot, at: isFirst ? 0 : account.waiting.count)
            }
            guard !account.waiting.isEmpty else { return }
            account.deficit = min(turn.left, quantum)
            account.goesOn = !isWanting && account.deficit > 0
            let place = accounts.firstIndex { $0.turn != nil } ?? accounts.count
            accounts.insert(account, at: account.goesOn ? 0 : place)
        }

        mutating func leave(_ slot: Int) {
            end(slot, isWanting: false)
            guard let index = account(of: slot) else { return }
            accounts[index].waiting.removeAll { $0 == slot }
            if accounts[index].waiting.isEmpty, accounts[index].turn == nil { accounts.remove(at: index) }
        }
    }

    @Test func turnsComeAsInTheModel() {
        for seed in 0..<40 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            var now = Self.start
            var budget = UnicastBudget(rate: Self.rate, largestPart: Self.largest, at: now)
            var model = Model(quantum: Self.largest)
            for _ in 0..<1500 {
                let slot = Int.random(in: 0..<30, using: &random)
                switch Int.random(in: 0..<6, using: &random) {
                case 0, 1:
                    // A receiver may have moved.
                    let number = Bool.random(using: &random) ? slot % 4 : Int.random(in: 0..<9, using: &random)
                    budget.wait(slot, account: Self.account(number))
                    model.wait(slot, number)
                case 2, 3:
                    now += .milliseconds(100)
                    guard let begun = budget.beginTurn(at: now) else { continue }
                    let expected = model.begin()
                    #expect(begun == expected?.slot)
                    #expect(budget.allowance(begun) == expected?.octets)
                case 4:
                    guard let left = budget.allowance(slot) else { continue }
                    let octets = Int.random(in: 0...left, using: &random)
                    if octets > 0 { budget.spend(slot, octets) }
                    let index = model.account(of: slot)!
                    model.accounts[index].turn!.left -= octets
                    let isWanting = Bool.random(using: &random)
                    budget.endTurn(slot, isWanting: isWanting)
                    model.end(slot, isWanting: isWanting)
                default:
                    guard Int.random(in: 0..<3, using: &random) == 0 else { continue }
                    budget.leave(slot)
                    model.leave(slot)
                }
                #expect(budget.waitingCount == model.accounts.reduce(0) { $0 + $1.waiting.count })
                #expect(budget.accountCount == model.accounts.count)
                #expect((budget.nextTurn == .distantFuture) == (model.accounts.first.map { $0.turn != nil } ?? true))
            }
            for slot in 0..<30 { budget.leave(slot) }
            #expect(budget.waitingCount == 0 && budget.accountCount == 0 && budget.nextTurn == .distantFuture)
        }
    }

    /// A step costs the same for a hundred thousand receivers as for a thousand.
    @Test func aStepTakesConstantTime() {
        func cost(_ count: Int) -> Duration {
            var crowd = Crowd(sizes: Array(repeating: 9000, count: count), accounts: Array(0..<count).map { $0 / 2 })
            let clock = ContinuousClock()
            return (0..<5).map { _ in
                let before = crowd.turns
                let took = clock.measure { crowd.run(for: .seconds(2)) }
                let left = clock.measure {
                    for slot in 0..<100 {
                        crowd.budget.leave(slot)
                        crowd.budget.wait(slot, account: Self.account(slot / 2))
                    }
                }
                return (took + left) / (crowd.turns - before + 200)
            }.min()!
        }
        let few = cost(1000)
        let many = cost(100_000)
        #expect(many < few * 10, "\(few) for a thousand, \(many) for a hundred thousand")
    }
}
