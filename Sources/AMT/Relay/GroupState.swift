import Wire

// The router's state of one group on one tunnel (RFC 9776 section 6, RFC 9777 section 7), as RFC 7450 section 5.3.1 has
// it: what is forwarded, and what reports change.
//
// INCLUDE (A): the sources A, each until its timer ends. Without a source the state is gone.
// EXCLUDE (X, Y): every source but Y, until the group timer ends. X are sources that somebody asked for by name: when
// their timer ends they go to Y, when the group timer ends they are what is left.
//
// A router asks a whole link "does anybody still want this?" before it stops. A tunnel has one gateway at its end, whose
// reports speak for all behind it, and the relay cannot send a query unasked (RFC 7450 section 5.1.4): where the tables
// say "send Q(…)", the timers are lowered to `leaveLatency`, which may be zero.

/// How long things last that are not heard of again.
struct MembershipTimes: Hashable, Sendable {
    /// Group Membership Interval.
    var membership: Duration
    /// Last Member Query Time: how long the answer to a query that cannot be sent is waited for.
    var leaveLatency: Duration
}

struct GroupState: Hashable, Sendable {
    struct Requested: Hashable, Sendable {
        var source: IPAddress
        var deadline: Instant
    }

    private(set) var isExclude = false
    /// When EXCLUDE ends.
    private(set) var groupDeadline = Instant.distantFuture
    /// A, or X. Few: searched one by one.
    private(set) var requested: [Requested] = []
    /// Y.
    private(set) var excluded: [IPAddress] = []

    /// Whether nothing is left of it.
    var isGone: Bool { !isExclude && requested.isEmpty }

    var nextDeadline: Instant {
        requested.reduce(isExclude ? groupDeadline : .distantFuture) { min($0, $1.deadline) }
    }

    /// Whether a packet from `source` is to be forwarded.
    func wants(_ source: IPAddress) -> Bool {
        isExclude ? !excluded.contains(source) : requested.contains { $0.source == source }
    }

    /// Changes the state as the tables say. False when the record names more sources than `limit` lets the state hold:
    /// those in excess are left out.
    mutating func apply(
        _ kind: GroupRecord.Kind, _ sources: [IPAddress], times: MembershipTimes, limit: Int, at now: Instant
    ) -> Bool {
        let named = Set(sources)
        let fresh = now + times.membership
        let soon = now + times.leaveLatency
        var fits = true
        switch (isExclude, kind) {
        case (_, .isInclude), (_, .allow):
            fits = request(sources, until: fresh, limit: limit)
        case (_, .toInclude):
            fits = request(sources, until: fresh, limit: limit)
            lower(to: soon) { !named.contains($0) }
            if isExclude { groupDeadline = min(groupDeadline, soon) }
        case (false, .block):
            lower(to: soon) { named.contains($0) }
        case (false, .isExclude), (false, .toExclude):
            requested.removeAll { !named.contains($0.source) }
            if kind == .toExclude { lower(to: soon) { _ in true } }
            excluded = unique(sources).filter { source in !requested.contains { $0.source == source } }
            fits = trim(limit)
            isExclude = true
            groupDeadline = fresh
        case (true, .block):
            fits = request(
                sources.filter { !excluded.contains($0) }, until: groupDeadline, limit: limit, extending: false)
            lower(to: soon) { named.contains($0) }
        case (true, .isExclude), (true, .toExclude):
            let until = kind == .isExclude ? fresh : groupDeadline
            requested.removeAll { !named.contains($0.source) }
            excluded.removeAll { !named.contains($0) }
            fits = request(
                sources.filter { !excluded.contains($0) }, until: until, limit: limit, extending: false)
            if kind == .toExclude { lower(to: soon) { _ in true } }
            groupDeadline = fresh
        }
        expire(at: now)
        return fits
    }

    /// Ends what is due.
    mutating func expire(at now: Instant) {
        if isExclude, groupDeadline <= now {
            isExclude = false
            groupDeadline = .distantFuture
            excluded = []
        }
        guard requested.contains(where: { $0.deadline <= now }) else { return }
        if isExclude { excluded += requested.filter { $0.deadline <= now }.map(\.source) }
        requested.removeAll { $0.deadline <= now }
    }

    /// As if `sources` had not been asked for: what is refused stands in no state, so that it is asked for again with the next report.
    mutating func forget(_ sources: [IPAddress]) { requested.removeAll { sources.contains($0.source) } }

    /// Moves `sources` to A or X.
    private mutating func request(
        _ sources: [IPAddress], until deadline: Instant, limit: Int, extending: Bool = true
    ) -> Bool {
        var fits = true
        for source in sources {
            if let index = requested.firstIndex(where: { $0.source == source }) {
                if extending { requested[index].deadline = max(requested[index].deadline, deadline) }
                continue
            }
            if let index = excluded.firstIndex(of: source) { excluded.remove(at: index) }
            if requested.count + excluded.count < limit {
                requested.append(Requested(source: source, deadline: deadline))
            } else {
                fits = false
            }
        }
        return fits
    }

    private mutating func lower(to deadline: Instant, where applies: (IPAddress) -> Bool) {
        for index in requested.indices where applies(requested[index].source) {
            requested[index].deadline = min(requested[index].deadline, deadline)
        }
    }

    private mutating func trim(_ limit: Int) -> Bool {
        let room = max(0, limit - requested.count)
        guard excluded.count > room else { return true }
        excluded.removeLast(excluded.count - room)
        return false
    }

    private func unique(_ sources: [IPAddress]) -> [IPAddress] {
        var seen: Set<IPAddress> = []
        return sources.filter { seen.insert($0).inserted }
    }
}
