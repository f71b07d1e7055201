import Wire

/// How long an address has to wait after the flow has put out a member of its own: `first`, and twice as long each time that
/// this happens again, up to `longest`; forgotten when the last pause is over for `memory`. It belongs to the account, not to
/// the connection: else a client that connects anew would have nothing to wait for.
///
/// **Many behind one address.** They must not pay for one of them. So a pause holds back newcomers only while those that were
/// put out are more than one in `membersPerEviction` of the members that the account has: of fifty good receivers in an office
/// three may fail without anybody noticing, and an address that has brought nothing but trouble waits. Who waits gets
/// everything on its connection meanwhile.
///
/// What an attacker gains by keeping good members is in proportion to what he spends on them: for each eight one more to be
/// put out in a pause.
struct JoinPauses: Sendable {
    static var first: Duration { JoinLimiter.firstWait }
    static var longest: Duration { JoinLimiter.longestWait }
    static var memory: Duration { .seconds(600) }
    static var membersPerEviction: Int { 8 }
    /// Accounts whose pauses are remembered; of more, the one that waits the shortest is forgotten.
    static var mostAccounts: Int { 4096 }

    private struct Pause: Sendable {
        var failures = 0
        /// Members put out since the pause began.
        var evictions = 0
        var until: Instant
    }

    private var pauses: [FlowAccount: Pause] = [:]
    /// Members by account: no more accounts than the flow has members.
    private var members: [FlowAccount: Int] = [:]
    /// Accounts forgotten before their time for want of room.
    private(set) var forgotten: UInt64 = 0

    /// Accounts whose pauses are remembered.
    var count: Int { pauses.count }

    /// Whether a receiver of this account may become a member now.
    func mayJoin(_ account: FlowAccount, at now: Instant) -> Bool {
        guard let pause = pauses[account], now < pause.until else { return true }
        return pause.evictions * Self.membersPerEviction <= members[account] ?? 0
    }

    /// A member of this account was taken in.
    mutating func admitted(_ account: FlowAccount) { members[account, default: 0] += 1 }

    /// A member of this account is none any more, for whatever reason.
    mutating func left(_ account: FlowAccount) {
        guard let count = members[account] else { return }
        members[account] = count > 1 ? count - 1 : nil
    }

    /// The flow has put a member of this account out, or could not take it in by its own fault.
    mutating func evicted(_ account: FlowAccount, at now: Instant) {
        var pause = pauses[account] ?? Pause(until: now)
        if now - pause.until >= Self.memory { pause = Pause(until: now) }
        if now >= pause.until {
            pause.until = now + min(Self.longest, Self.first * (1 << min(pause.failures, 10)))
            pause.failures += 1
            pause.evictions = 0
        }
        // All that fail within one pause may have failed of one cause, and double it once.
        pause.evictions += 1
        if pauses[account] == nil, pauses.count >= Self.mostAccounts { makeRoom(at: now) }
        pauses[account] = pause
    }

    private mutating func makeRoom(at now: Instant) {
        pauses = pauses.filter { now - $0.value.until < Self.memory }
        guard pauses.count >= Self.mostAccounts, let least = pauses.min(by: { $0.value.until < $1.value.until }) else {
            return
        }
        pauses[least.key] = nil
        forgotten += 1
    }
}
