/// How an item's octets reached a receiver.
public enum Via: String, CaseIterable, Sendable {
    /// All of them on the flow.
    case flow
    /// All of them on the receiver's connection.
    case unicast
    /// Some on the flow, some on the unicast path: repaired, or caught by a change of path.
    case mixed
}

/// Why a receiver went back to its unicast path.
public enum FallbackReason: String, CaseIterable, Sendable {
    /// Nothing was heard on the flow for three keep-alive intervals.
    case silence
    /// The source sent LEAVE.
    case evicted
    /// The source withdrew the flow.
    case withdrawn
}
