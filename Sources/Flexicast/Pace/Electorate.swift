import Wire

/// Who pays for a member, and has one vote for all its members: an address, as far as one party is given it.
public struct FlowAccount: Hashable, Sendable {
    private var bits: UInt128

    /// The account of an address: an IPv4 address, or the /64 of an IPv6 one, which is what a single host gets.
    public init(_ address: IPAddress) {
        switch address {
        case .v4(let address): bits = UInt128(address)
        case .v6(let address): bits = address >> 64 | 1 << 64
        }
    }

    /// One of its own, for a member of whose address nothing is known.
    init(number: UInt64) { bits = UInt128(number) | 1 << 65 }
}

/// What one member has voted for, and which account it counts for.
struct Voter: Sendable {
    var account = 0
    /// Its votes count: it has been measured for a while.
    var isCounted = false
    var rate: UInt16?
    var wait: UInt16?
    var share: UInt16?
}

/// The accounts that have a say in how fast the flow goes: those of its members, and those of members that have left for
/// slowness and whose connections still stand. Without the latter a slow majority would be put out one by one before the
/// flow slows down, and the quick rest would vote for more.
///
/// Of n accounts the slowest quarter (`100 - percent`), and at least one of two or more, may be left behind. They have no
/// say in the pace, and nobody else leaves for slowness while as many are out: then the pace falls.
struct Electorate: Sendable {
    private struct Account: Sendable {
        var key: FlowAccount
        /// Members and leavers that name it.
        var references = 0
        var voters = 0
        var leavers = 0

        /// Most of those that it voted by have left for slowness.
        var isOut: Bool { leavers > voters }
    }

    private struct Leaver: Sendable {
        var id: MemberID
        var account: Int
        var rate: UInt16?
        var until: Instant
        var isGone = false

        static let none = Leaver(
            id: MemberID(slot: 0, epoch: 0), account: 0, rate: nil, until: Instant(nanoseconds: 0), isGone: true)
    }

    /// How long a leaver has a say.
    static var memory: Duration { .seconds(60) }
    /// Leavers remembered at most; beyond it the oldest are forgotten.
    static var mostLeavers: Int { 4096 }

    private let percent: Int
    private var accounts: [Account] = []
    private var free: [Int] = []
    private var places: [FlowAccount: Int] = [:]
    private var leavers = IndexedRing(filler: Leaver.none)
    private var leaverPlaces: [MemberID: UInt64] = [:]

    private var rates = Ballot()
    private var waits = Ballot()
    private var shares = Ballot()

    /// Accounts that are out.
    private(set) var out = 0
    /// Accounts with voters that are not out.
    private(set) var active = 0
    /// Bits per second that all but the slowest accounts can take; `max` while nobody has said less.
    private(set) var pace = UInt64.max

    /// - Parameter percent: how many per cent of the accounts the pace has to suit.
    init(percent: Int) { self.percent = percent }

    // MARK: Accounts

    /// The account of a new member, which holds it until `leave` or `depart`.
    mutating func enter(_ key: FlowAccount) -> Int {
        if let place = places[key] {
            accounts[place].references += 1
            return place
        }
        let place: Int
        if let last = free.popLast() {
            place = last
            accounts[place] = Account(key: key, references: 1)
        } else {
            place = accounts.count
            accounts.append(Account(key: key, references: 1))
        }
        places[key] = place
        return place
    }

    private mutating func release(_ account: Int) {
        accounts[account].references -= 1
        guard accounts[account].references == 0 else { return }
        places[accounts[account].key] = nil
        free.append(account)
    }

    /// Accounts that may be left behind.
    var spare: Int { Self.spare(of: rates.count, percent: percent) }

    static func spare(of count: Int, percent: Int) -> Int {
        count < 2 ? 0 : max(1, count * (100 - percent) / 100)
    }

    /// The active accounts without those that may still be left behind: the many.
    var many: Int { max(1, active - max(0, spare - out)) }

    /// Accounts whose losses do not count as the flow's: few have all the say there is.
    var tolerated: Int { active < Self.fewAccounts ? 0 : max(0, spare - out) }
    private static var fewAccounts: Int { 10 }

    func isOut(_ account: Int) -> Bool { accounts[account].isOut }

    /// Whether a member of the account may leave for slowness: of the account's own members a few may, and of the accounts
    /// as many as may be left behind.
    func mayLeave(_ account: Int) -> Bool {
        let own = accounts[account]
        let all = own.voters + own.leavers
        return own.isOut || out < spare || own.leavers + 1 <= Self.spare(of: all, percent: percent)
    }

    private mutating func count(_ account: Int, voters: Int = 0, leavers: Int = 0) {
        let before = accounts[account]
        accounts[account].voters += voters
        accounts[account].leavers += leavers
        let after = accounts[account]
        out += (after.isOut ? 1 : 0) - (before.isOut ? 1 : 0)
        active += (after.voters > 0 && !after.isOut ? 1 : 0) - (before.voters > 0 && !before.isOut ? 1 : 0)
    }

    // MARK: Votes

    /// The member has been measured: its votes count from now on.
    mutating func admit(_ voter: inout Voter) {
        guard !voter.isCounted else { return }
        voter.isCounted = true
        count(voter.account, voters: 1)
    }

    /// What the member can take, in bits per second; `max` when nothing is known to limit it.
    mutating func vote(rate: UInt64, by voter: inout Voter) {
        let bucket = UInt16(LogHistogram.bucket(of: rate))
        guard voter.isCounted, bucket != voter.rate else { return }
        rates.change(account: voter.account, from: voter.rate, to: bucket)
        voter.rate = bucket
        setPace()
    }

    /// How long an answer from it takes.
    mutating func vote(wait: Duration, by voter: inout Voter) {
        let bucket = UInt16(LogHistogram.bucket(of: UInt64(max(0, wait.nanoseconds))))
        guard voter.isCounted, bucket != voter.wait else { return }
        waits.change(account: voter.account, from: voter.wait, to: bucket)
        voter.wait = bucket
    }

    /// The share of packets that it misses, in units of 2^-16.
    mutating func vote(share: UInt64, by voter: inout Voter) {
        let bucket = UInt16(LogHistogram.bucket(of: share))
        guard voter.isCounted, bucket != voter.share else { return }
        shares.change(account: voter.account, from: voter.share, to: bucket)
        voter.share = bucket
    }

    /// How long the answer of a usual account takes.
    var usualWait: Duration? { waits.median.map { .nanoseconds(Int64(clamping: $0)) } }
    /// The share of packets that a usual account misses, in units of 2^-16.
    var usualShare: UInt64 { shares.median ?? 0 }

    private mutating func setPace() { pace = rates.value(skipping: spare) ?? .max }

    // MARK: Leaving

    /// A member is no more, and its votes with it.
    mutating func leave(_ voter: inout Voter) {
        withdraw(&voter)
        release(voter.account)
    }

    /// A member has left for slowness: what it could take counts for a while.
    mutating func depart(_ voter: inout Voter, id: MemberID, at now: Instant) {
        let rate = voter.rate
        let account = voter.account
        withdraw(&voter)
        if leavers.count >= Self.mostLeavers { forgetOldest() }
        leaverPlaces[id] = leavers.end
        leavers.append(Leaver(id: id, account: account, rate: rate, until: now + Self.memory))
        rates.change(account: account, from: nil, to: rate)
        count(account, leavers: 1)
        setPace()
    }

    private mutating func withdraw(_ voter: inout Voter) {
        rates.change(account: voter.account, from: voter.rate, to: nil)
        waits.change(account: voter.account, from: voter.wait, to: nil)
        shares.change(account: voter.account, from: voter.share, to: nil)
        if voter.isCounted { count(voter.account, voters: -1) }
        voter.isCounted = false
        voter.rate = nil
        voter.wait = nil
        voter.share = nil
        setPace()
    }

    /// The connection of a member that had left has ended: it has no say any more.
    mutating func ended(_ id: MemberID) {
        guard let place = leaverPlaces[id] else { return }
        forget(place)
        trim()
    }

    /// Forgets those whose time is over.
    mutating func forgetOld(at now: Instant) {
        while !leavers.isEmpty, leavers[leavers.base].isGone || leavers[leavers.base].until <= now { forgetOldest() }
    }

    /// When the first of them is to be forgotten.
    var nextToForget: Instant { leavers.isEmpty ? .distantFuture : leavers[leavers.base].until }

    private mutating func forgetOldest() {
        forget(leavers.base)
        leavers.removeFirst()
        trim()
    }

    private mutating func trim() { while !leavers.isEmpty, leavers[leavers.base].isGone { leavers.removeFirst() } }

    private mutating func forget(_ place: UInt64) {
        let leaver = leavers[place]
        guard !leaver.isGone else { return }
        leavers[place].isGone = true
        leaverPlaces[leaver.id] = nil
        rates.change(account: leaver.account, from: leaver.rate, to: nil)
        count(leaver.account, leavers: -1)
        release(leaver.account)
        setPace()
    }
}
