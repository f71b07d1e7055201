import Wire

/// Which channels the hosts of one link want, from the reports that a router hears there (RFC 9776 section 6).
///
/// The hosts are taken for one, as if they had a tunnel of their own, and are not asked: who dies without a leave is
/// missed by nobody. That suits a link with one host on it, such as a relay's.
public struct LinkMembership: Sendable {
    /// Groups that are followed; records of more are passed over.
    public static let groupLimit = 1024
    private static let times = MembershipTimes(membership: .seconds(1 << 30), leaveLatency: .zero)

    private var groups: [IPAddress: GroupState] = [:]
    /// Records passed over because there are too many groups or sources.
    public private(set) var refused: UInt64 = 0

    /// Nobody wants anything yet.
    public init() {}

    /// Handles an IP packet heard on the link: what changes, for channels that name their source. What is no sound
    /// report changes nothing.
    public mutating func packetReceived(_ packet: Span<UInt8>, at now: Instant) -> [UpstreamChange] {
        guard let report = try? MembershipReport(packet) else { return [] }
        return report.records.flatMap { record in apply(record, at: now) }
    }

    private mutating func apply(_ record: GroupRecord, at now: Instant) -> [UpstreamChange] {
        let group = record.group
        guard group.isMulticast, !group.isLinkLocalGroup else { return [] }
        let before = groups[group]
        guard before != nil || groups.count < Self.groupLimit else {
            refused += 1
            return []
        }
        var state = before ?? GroupState()
        let limit = RelayConfiguration().sourcesPerGroupLimit
        if !state.apply(record.kind, record.sources, times: Self.times, limit: limit, at: now) { refused += 1 }
        groups[group] = state.isGone ? nil : state
        let old = Set(before?.requested.map(\.source) ?? [])
        let new = Set(state.requested.map(\.source))
        return new.subtracting(old).map { .join(Channel(source: $0, group: group)) }
            + old.subtracting(new).map { .leave(Channel(source: $0, group: group)) }
    }
}
