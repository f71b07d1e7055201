import Wire

// How a receiver's flow gets here: the group itself, or a tunnel to a relay.
//
//     native ── nothing heard for `patience` ──> native and tunnel ── native heard steadily ──> native
//
// The group stays joined while the tunnel is open, so that the way back up is seen. A packet that comes both ways counts
// once: the connection drops the second by its number. Below both lies the unicast path, which needs nothing from here.

/// By which ways a receiver may look for a flow.
public struct FlowWays: Hashable, Sendable {
    /// Join the group itself.
    public var native: Bool
    /// Open a tunnel to a relay when the group is not heard, or at once when it is not joined.
    public var tunnel: Bool

    /// With neither the flow is never heard: everything comes on the connection.
    public init(native: Bool = true, tunnel: Bool = false) {
        self.native = native
        self.tunnel = tunnel
    }
}

/// Which way the flow comes.
public enum FlowWay: String, Sendable {
    /// From the group itself, or in copies from the source.
    case multicast
    /// Through a tunnel to a relay (RFC 7450).
    case amt
}

/// Decides, from what is heard, when the tunnel of a flow is wanted. A pure value.
struct FlowLadder {
    /// Without a packet from the group for this long, three keep-alive intervals of a source, the tunnel is opened.
    static let patience = Duration.milliseconds(1500)
    /// The group has to be heard for this long without such a gap before the tunnel is closed.
    static let trust = Duration.seconds(5)

    enum Step: Equatable {
        case openTunnel
        case closeTunnel
    }

    private let ways: FlowWays
    private(set) var isTunnelOpen = false
    /// When the group was last heard, or the wait for it began.
    private var heardAt: Instant
    /// Since when it is heard without a gap.
    private var steadySince: Instant?

    init(_ ways: FlowWays, at now: Instant) {
        self.ways = ways
        heardAt = now
    }

    /// The first step, before anything was heard.
    mutating func start() -> Step? {
        guard !ways.native, ways.tunnel else { return nil }
        isTunnelOpen = true
        return .openTunnel
    }

    /// A packet of the flow came from the group itself.
    mutating func nativeHeard(at now: Instant) -> Step? {
        if now - heardAt >= Self.patience || steadySince == nil { steadySince = now }
        heardAt = now
        guard isTunnelOpen, let steadySince, now - steadySince >= Self.trust else { return nil }
        isTunnelOpen = false
        return .closeTunnel
    }

    var nextDeadline: Instant {
        ways.native && ways.tunnel && !isTunnelOpen ? heardAt + Self.patience : .distantFuture
    }

    mutating func timerFired(at now: Instant) -> Step? {
        guard nextDeadline <= now else { return nil }
        isTunnelOpen = true
        steadySince = nil
        return .openTunnel
    }
}
