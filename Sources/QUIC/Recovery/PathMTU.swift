import Wire

/// How large a datagram the path carries: a search upwards from 1200 octets with probes of our own, whose loss is no
/// sign of congestion (RFC 8899 section 5, RFC 9000 section 14.3).
struct PathMTU: Sendable {
    /// What every path that carries QUIC carries (RFC 9000 section 14).
    static let floor = 1200
    /// Losses of one size after which it is taken for too large (RFC 8899 section 5.1.2, MAX_PROBES).
    static let maxProbes = 3
    /// Where paths end: what a packet of 1500 or 9000 octets carries over IPv6, and over IPv4.
    static let steps = [1452, 1472, 8952, 8972]
    /// Below this, where tunnels leave all kinds of sizes, the search ends when it knows the answer as closely as
    /// `precision`; above, only the steps and the ceiling are tried.
    static let fineLimit = 1472
    static let precision = 16
    /// After this long a larger size is tried again (RFC 8899 section 5.1.1, PMTU_RAISE_TIMER).
    static let raiseInterval = Duration.seconds(600)
    /// The same after a black hole, which may have been no more than an outage.
    static let retryInterval = Duration.seconds(60)
    /// Lost large packets with none arriving, or probe timeouts in a row, after which the path is taken for a black
    /// hole.
    static let blackHoleLosses = 8
    static let blackHoleTimeouts = 3

    /// Octets of UDP payload known to pass.
    private(set) var current = PathMTU.floor
    /// Octets never to be exceeded: the interface's, or the peer's max_udp_payload_size.
    var ceiling: Int {
        didSet {
            ceiling = max(Self.floor, ceiling)
            if ceiling == oldValue { return }
            current = min(current, ceiling)
            tooLarge = ceiling + 1
            isSearching = true
            outstanding = nil
            losses = 0
        }
    }

    /// The least size known or assumed not to pass.
    private var tooLarge: Int
    /// The probe under way. Its packet number tells it from one of an earlier search, or of another path.
    private var outstanding: (size: Int, packetNumber: UInt64)?
    private var losses = 0
    private var isSearching = true
    private var raiseAt: Instant?
    /// The search ended because of a black hole.
    private var isSuspect = false

    init(ceiling: Int = PathMTU.steps[0]) {
        self.ceiling = max(Self.floor, ceiling)
        tooLarge = self.ceiling + 1
    }

    /// When the next probe is due, once the search has come to rest; nil while it is under way (ask `probeSize`
    /// whenever there is something to send) and when nothing larger may be tried.
    var nextProbeAt: Instant? { isSearching ? nil : raiseAt }

    /// What `probeSize` is about to return: how much room it takes.
    func nextSize(at now: Instant) -> Int? {
        guard outstanding == nil, current < ceiling else { return nil }
        if isSearching { return candidate }
        guard let raiseAt, now >= raiseAt else { return nil }
        return Self.candidate(above: current, below: ceiling + 1, ceiling: ceiling)
    }

    /// The size of the probe to send now, if any.
    mutating func probeSize(at now: Instant) -> Int? {
        guard outstanding == nil, current < ceiling else { return nil }
        if !isSearching {
            guard let raiseAt else {
                self.raiseAt = now + (isSuspect ? Self.retryInterval : Self.raiseInterval)
                isSuspect = false
                return nil
            }
            guard now >= raiseAt else { return nil }
            isSearching = true
            tooLarge = ceiling + 1
            losses = 0
        }
        return candidate
    }

    private var candidate: Int? { Self.candidate(above: current, below: tooLarge, ceiling: ceiling) }

    /// The next step, then the ceiling itself: on most paths one passes and the next one ends the search.
    private static func candidate(above current: Int, below tooLarge: Int, ceiling: Int) -> Int? {
        for step in steps where step > current && step < tooLarge { return step }
        if tooLarge > ceiling { return ceiling }
        guard current < fineLimit, tooLarge - current > precision else { return nil }
        return (current + tooLarge) / 2
    }

    mutating func probeSent(_ size: Int, in packetNumber: UInt64) { outstanding = (size, packetNumber) }

    /// A probe arrived.
    mutating func probeAcknowledged(_ packetNumber: UInt64) {
        guard let size = end(packetNumber) else { return }
        losses = 0
        current = size
        settle()
    }

    /// A probe was lost.
    mutating func probeLost(_ packetNumber: UInt64) {
        guard let size = end(packetNumber) else { return }
        losses += 1
        guard losses >= Self.maxProbes else { return }
        losses = 0
        tooLarge = size
        settle()
    }

    /// The size of the probe under way, if it is this one.
    private mutating func end(_ packetNumber: UInt64) -> Int? {
        guard let outstanding, outstanding.packetNumber == packetNumber else { return nil }
        self.outstanding = nil
        return outstanding.size
    }

    /// Falls back to 1200 octets, and says so, when the path seems to swallow what it once carried: `largeLosses`
    /// packets above that size were lost since one arrived, or `timeouts` probe timeouts passed in a row.
    mutating func isBlackHole(largeLosses: Int, timeouts: Int) -> Bool {
        guard current > Self.floor, largeLosses >= Self.blackHoleLosses || timeouts >= Self.blackHoleTimeouts else {
            return false
        }
        current = Self.floor
        outstanding = nil
        isSearching = false
        raiseAt = nil
        isSuspect = true
        return true
    }

    private mutating func settle() {
        guard current >= ceiling || candidate == nil else { return }
        isSearching = false
        raiseAt = nil
    }
}
