import Wire

/// How many reports of receivers a source takes. Each costs it a line of output, and anybody who connects may send them: a receiver has
/// a pause to keep, an account a rate, and all together have one.
struct ReportBudget: Sendable {
    /// A receiver's reports are not taken more often; it sends them half as often.
    static let pause = Duration.seconds(5)
    /// Of one account: as many as its connections may send, and no more.
    static let rateOfAccount = TokenRate(perSecond: 32, burst: 256)
    /// Of all of them.
    static let rate = TokenRate(perSecond: 200, burst: 1000)
    /// Accounts that are remembered. With as many in use, those of others are not taken.
    static let mostAccounts = 4096

    private var all = TokenBucket()
    private var accounts: [FlowAccount: TokenBucket] = [:]

    /// How many accounts are remembered.
    var remembered: Int { accounts.count }

    /// Whether a report of this account is taken.
    mutating func take(_ account: FlowAccount, at now: Instant) -> Bool {
        if accounts[account] == nil, accounts.count >= Self.mostAccounts {
            accounts = accounts.filter { !$0.value.isFull(at: now) }
            guard accounts.count < Self.mostAccounts else { return false }
        }
        var bucket = accounts[account] ?? TokenBucket()
        guard bucket.take(Self.rateOfAccount, at: now) else { return false }
        guard all.take(Self.rate, at: now) else { return false }
        accounts[account] = bucket
        return true
    }
}
