/// Votes on one question, as buckets of a `LogHistogram`: an account has one, the median of its members', whoever they are
/// and however many. A change costs O(1): no more steps than there are buckets.
struct Ballot: Sendable {
    private struct Votes: Sendable {
        /// Buckets in order, with how many voted for each.
        var entries: [(bucket: UInt16, count: UInt32)] = []
        var total = 0

        /// The lower one of two in the middle: who doubles its voters does not gain by it.
        var median: UInt16? {
            var left = (total - 1) / 2
            for entry in entries {
                if left < Int(entry.count) { return entry.bucket }
                left -= Int(entry.count)
            }
            return nil
        }

        mutating func add(_ bucket: UInt16) {
            total += 1
            let place = entries.firstIndex { $0.bucket >= bucket } ?? entries.count
            if place < entries.count, entries[place].bucket == bucket {
                entries[place].count += 1
            } else {
                entries.insert((bucket, 1), at: place)
            }
        }

        mutating func remove(_ bucket: UInt16) {
            guard let place = entries.firstIndex(where: { $0.bucket == bucket }) else { return }
            total -= 1
            entries[place].count -= 1
            if entries[place].count == 0 { entries.remove(at: place) }
        }
    }

    private var accounts: [Votes] = []
    private var standing = LogHistogram()

    /// Accounts that have voted.
    var count: Int { standing.total }

    /// A voter changes its vote, gives its first, or takes it back.
    mutating func change(account: Int, from old: UInt16?, to new: UInt16?) {
        guard old != new else { return }
        while accounts.count <= account { accounts.append(Votes()) }
        let before = accounts[account].median
        if let old { accounts[account].remove(old) }
        if let new { accounts[account].add(new) }
        let after = accounts[account].median
        guard before != after else { return }
        if let before { standing.remove(Int(before)) }
        if let after { standing.add(Int(after)) }
    }

    /// The vote of the account that this many are not above, in order: nil without so many.
    func value(skipping count: Int) -> UInt64? {
        standing.bucket(skipping: count).map(LogHistogram.least)
    }

    /// The median of the accounts, the lower one of two.
    var median: UInt64? { count == 0 ? nil : value(skipping: (count - 1) / 2) }
}
