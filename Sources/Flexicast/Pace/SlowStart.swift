import Wire

/// Which accounts have done something in the present round; each counts once.
struct RoundCount: Sendable {
    private var round: UInt32 = 1
    /// The round in which each account did it last.
    private var last: [UInt32] = []
    private(set) var count = 0

    mutating func mark(_ account: Int) {
        while last.count <= account { last.append(0) }
        guard last[account] != round else { return }
        last[account] = round
        count += 1
    }

    mutating func begin() {
        round &+= 1
        count = 0
    }
}

/// How far the many have come: from time to time the packet number is noted that comes next, and it counts as settled when
/// as many accounts have settled what is before it.
struct Progress: Sendable {
    private var goal: UInt64
    private var passed = RoundCount()
    /// The many have settled what is below.
    private(set) var settled: UInt64

    init(from packetNumber: UInt64) {
        goal = packetNumber
        settled = packetNumber
    }

    /// An account has settled what is below `floor`; `next` is the number of the next packet.
    mutating func settled(below floor: UInt64, by account: Int, many: Int, next: UInt64) {
        guard floor > goal else { return }
        passed.mark(account)
        guard passed.count >= many else { return }
        settled = max(settled, goal)
        goal = next
        passed.begin()
    }
}

/// How fast a flow may be that nobody has complained of yet (TFMCC's slow start, RFC 4654; RFC 9002 section 7.3.1).
///
/// It begins at a rate that does little harm anywhere. Each round of acknowledgements after which nobody misses anything
/// doubles it, if the flow wanted all of it meanwhile: a rate that was not used has proved nothing. A round is over when
/// every account has settled a packet that was sent in it; those that are late are waited for, but no longer than the
/// source has patience with them once the many are there. A loss only ends the round; from then on the accounts' votes
/// bound the flow.
struct SlowStart: Sendable {
    /// Bits per second.
    private(set) var limit: UInt64
    private var roundStart: UInt64
    /// The many had settled it first then.
    private var manySettledAt: Instant?
    private var wasUsedUp = false
    private var passed = RoundCount()
    private var lost = RoundCount()

    init(rate: UInt64, from packetNumber: UInt64) {
        limit = rate
        roundStart = packetNumber
    }

    /// No round is over yet: all who come are asked.
    private(set) var isFresh = true

    /// It is no more than that from now on, unless it grows again.
    mutating func cap(at rate: UInt64) { limit = min(limit, rate) }

    /// A packet had to wait for the pacer.
    mutating func usedUp() { wasUsedUp = true }
    /// A member of the account lost a packet.
    mutating func lost(by account: Int) { lost.mark(account) }

    /// An account has settled what is below `floor`, and packets below `next` have been sent at `rate`.
    /// - Parameters:
    ///   - all: accounts that are asked.
    ///   - many: those without which a round is not over.
    ///   - patience: how long the others are waited for.
    ///   - tolerated: accounts that may have lost packets.
    mutating func settled(
        below floor: UInt64, by account: Int, all: Int, many: Int, patience: Duration, tolerated: Int, next: UInt64,
        rate: UInt64, ceiling: UInt64, at now: Instant
    ) {
        if floor > roundStart { passed.mark(account) }
        guard passed.count >= many else { return }
        let since = manySettledAt ?? now
        manySettledAt = since
        guard passed.count >= all || now - since >= patience else { return }
        isFresh = false
        if wasUsedUp, lost.count <= tolerated { limit = max(limit, rate > ceiling / 2 ? ceiling : rate * 2) }
        roundStart = next
        manySettledAt = nil
        wasUsedUp = false
        passed.begin()
        lost.begin()
    }
}
