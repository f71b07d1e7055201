import Testing
import Wire

@testable import Flexicast

/// The order statistics behind the flow's pace, against plain models of them.
@Suite struct ElectorateTests {
    @Test func aBucketHoldsValuesWithinASixteenth() {
        var random = SeededRandom(seed: 1)
        for _ in 0..<10_000 {
            let value = random.next() >> UInt64.random(in: 0..<64, using: &random)
            let bucket = LogHistogram.bucket(of: value)
            let least = LogHistogram.least(of: bucket)
            #expect(least <= max(1, value) && max(1, value) - least <= least / 16)
            #expect(bucket == 1023 || LogHistogram.least(of: bucket + 1) > value || value < 16)
        }
        #expect(LogHistogram.bucket(of: .max) == 1023)
        #expect(LogHistogram.bucket(of: 0) == 0)
    }

    @Test func theHistogramKnowsEveryRank() {
        var random = SeededRandom(seed: 2)
        var histogram = LogHistogram()
        var model: [Int] = []
        for _ in 0..<2000 {
            if model.isEmpty || Int.random(in: 0..<3, using: &random) > 0 {
                let bucket = Int.random(in: 0..<1024, using: &random)
                histogram.add(bucket)
                model.append(bucket)
            } else {
                histogram.remove(model.remove(at: Int.random(in: 0..<model.count, using: &random)))
            }
            let rank = Int.random(in: 0...model.count, using: &random)
            #expect(histogram.bucket(skipping: rank) == (rank < model.count ? model.sorted()[rank] : nil))
        }
    }

    /// What the electorate should say, from all votes, the long way.
    private struct Model {
        struct Voter {
            var account: Int
            var rate: UInt64
            var until: Instant?
        }
        var voters: [Int: Voter] = [:]
        let percent: Int

        private var medians: [UInt64] {
            Dictionary(grouping: voters.values, by: \.account).values.map { own in
                let rates = own.map { LogHistogram.least(of: LogHistogram.bucket(of: $0.rate)) }.sorted()
                return rates[(rates.count - 1) / 2]
            }.sorted()
        }
        var spare: Int {
            let count = medians.count
            return count < 2 ? 0 : max(1, count * (100 - percent) / 100)
        }
        var pace: UInt64 { medians.isEmpty ? .max : medians[spare] }
        var out: Int {
            Dictionary(grouping: voters.values, by: \.account).values.count { own in
                own.count { $0.until != nil } > own.count { $0.until == nil }
            }
        }
    }

    /// Members of few or many accounts come, vote, leave, leave for slowness and end their connections.
    @Test(arguments: [1, 2, 5, 9, 100, 10_000], [75, 90]) func agreesWithAModel(size: Int, percent: Int) {
        var random = SeededRandom(seed: UInt64(size + percent))
        var electorate = Electorate(percent: percent)
        var model = Model(percent: percent)
        var voters: [Int: Voter] = [:]
        var live: [Int] = []
        var now = Instant(nanoseconds: 0)
        func id(_ name: Int) -> MemberID { MemberID(slot: name, epoch: 0) }
        let steps = max(300, size + size / 20)
        for name in 0..<steps {
            now += .milliseconds(Int64.random(in: 0..<(size > 1000 ? 2 : 500), using: &random))
            electorate.forgetOld(at: now)
            for (old, voter) in model.voters where size < 1000 || name % 100 == 0 {
                if let until = voter.until, until <= now { model.voters[old] = nil }
            }
            let rate = random.next() >> UInt64.random(in: 20..<50, using: &random)
            if voters.count < size {
                let account = Int.random(in: 0..<max(1, size * 2 / 3), using: &random)
                var voter = Voter()
                voter.account = electorate.enter(FlowAccount(.v4(UInt32(account))))
                electorate.admit(&voter)
                electorate.vote(rate: rate, by: &voter)
                voters[name] = voter
                model.voters[name] = .init(account: account, rate: rate)
                live.append(name)
            }
            guard size < 1000 || name > size, !live.isEmpty else { continue }
            let place = Int.random(in: 0..<live.count, using: &random)
            let chosen = live[place]
            switch Int.random(in: 0..<6, using: &random) {
            case 0...3:
                electorate.vote(rate: rate, by: &voters[chosen]!)
                model.voters[chosen]!.rate = rate
            case 4:
                electorate.leave(&voters[chosen]!)
                live.swapAt(place, live.count - 1)
                live.removeLast()
                voters[chosen] = nil
                model.voters[chosen] = nil
            default:
                electorate.depart(&voters[chosen]!, id: id(chosen), at: now)
                live.swapAt(place, live.count - 1)
                live.removeLast()
                voters[chosen] = nil
                model.voters[chosen]!.until = now + Electorate.memory
            }
            if size < 1000, name % 7 == 0, let gone = model.voters.first(where: { $0.value.until != nil })?.key {
                electorate.ended(id(gone))
                model.voters[gone] = nil
            }
            guard size < 1000 || name % 100 == 0 else { continue }
            #expect(electorate.spare == model.spare)
            #expect(electorate.pace == model.pace)
            #expect(electorate.out == model.out)
        }
        for name in voters.keys { electorate.leave(&voters[name]!) }
        electorate.forgetOld(at: now + .seconds(61))
        #expect(electorate.pace == .max && electorate.out == 0 && electorate.active == 0)
    }

    /// Of n accounts a quarter may be left behind, at least one if there is another.
    @Test func howManyMayBeLeftBehind() {
        #expect(
            [0, 1, 2, 5, 9, 100, 10_000].map { Electorate.spare(of: $0, percent: 75) } == [0, 0, 1, 1, 2, 25, 2500])
        #expect(
            [0, 1, 2, 5, 9, 100, 10_000].map { Electorate.spare(of: $0, percent: 90) } == [0, 0, 1, 1, 1, 10, 1000])
        #expect(Electorate.spare(of: 3, percent: 100) == 1)
    }

    /// However many members an account has, and however they come and go, it has one vote, and counts once among those out.
    @Test func anAccountHasOneVote() {
        var electorate = Electorate(percent: 75)
        var honest: [Voter] = []
        for address in 0..<4 {
            var voter = Voter()
            voter.account = electorate.enter(FlowAccount(.v4(UInt32(address))))
            electorate.admit(&voter)
            electorate.vote(rate: 1 << 30, by: &voter)
            honest.append(voter)
        }
        for number in 0..<100 {
            var liar = Voter()
            liar.account = electorate.enter(FlowAccount(.v4(99)))
            electorate.admit(&liar)
            electorate.vote(rate: 1 << 10, by: &liar)
            #expect(electorate.pace == 1 << 30)
            #expect(electorate.mayLeave(liar.account))
            electorate.depart(&liar, id: MemberID(slot: number, epoch: 0), at: Instant(nanoseconds: 0))
            #expect(electorate.out == 1 && electorate.active == 4)
        }
        // As many are out as may be: the others stay.
        #expect(honest.allSatisfy { !electorate.mayLeave($0.account) })
    }

    @Test func leaversAreBounded() {
        var electorate = Electorate(percent: 75)
        for number in 0..<(Electorate.mostLeavers + 500) {
            var voter = Voter()
            voter.account = electorate.enter(FlowAccount(.v4(UInt32(number))))
            electorate.admit(&voter)
            electorate.vote(rate: 1 << 20, by: &voter)
            electorate.depart(&voter, id: MemberID(slot: number, epoch: 0), at: Instant(nanoseconds: 0))
        }
        #expect(electorate.out == Electorate.mostLeavers)
    }

    /// A single host has a whole /64 (RFC 4291 section 2.5.4).
    @Test func anAccountIsAnAddressOrANetworkOf64Bits() {
        let account = { (text: String) in IPAddress(text).map(FlowAccount.init) }
        #expect(account("2001:db8::1") == account("2001:db8::ffff:1"))
        #expect(account("2001:db8::1") != account("2001:db8:0:1::1"))
        #expect(account("192.0.2.1") != account("192.0.2.2"))
        #expect(account("::c000:201") != account("192.0.2.1"))
    }

    @Test func progressIsWhatTheManyHaveSettled() {
        var progress = Progress(from: 0)
        progress.settled(below: 10, by: 0, many: 2, next: 20)
        progress.settled(below: 11, by: 0, many: 2, next: 21)
        #expect(progress.settled == 0)
        progress.settled(below: 5, by: 1, many: 2, next: 30)
        progress.settled(below: 31, by: 0, many: 2, next: 40)
        progress.settled(below: 31, by: 1, many: 2, next: 40)
        #expect(progress.settled == 30)
    }
}
