import Wire

/// The pair of addresses the connection runs over, with address validation and the 3x limit (RFC 9000 sections 8 and 9).
struct NetworkPath: Sendable {
    var remote: SocketAddress
    /// The local address that packets arrived at; nil until one did.
    var local: SocketAddress?
    private(set) var isValidated: Bool
    private var octetsReceived = 0
    private var octetsSent = 0
    /// The outstanding challenge.
    private(set) var challenge: Challenge?

    struct Challenge: Sendable {
        var data: UInt64
        /// Give up on the path then.
        var deadline: Instant
        /// When the PATH_CHALLENGE frame is sent (again).
        var nextSend: Instant
        var sent = 0
        /// It went out in datagrams of at least 1200 octets.
        var isExpanded = true
    }

    /// PATH_CHALLENGE frames sent for one validation.
    static let maxChallenges = 3

    init(remote: SocketAddress, isValidated: Bool) {
        self.remote = remote
        self.isValidated = isValidated
    }

    /// Octets that may be sent now (RFC 9000 sections 8.1, 9.3 and 14.1).
    var allowance: Int { isValidated ? .max : max(0, 3 * octetsReceived - octetsSent) }

    mutating func received(_ octets: Int) { octetsReceived += octets }
    mutating func sent(_ octets: Int) { octetsSent += octets }
    mutating func validate() {
        isValidated = true
        challenge = nil
    }

    /// Begins validation (RFC 9000 section 8.2); it fails after three PTO.
    mutating func startChallenge(data: UInt64, pto: Duration, at now: Instant) {
        challenge = Challenge(data: data, deadline: now + pto * 3, nextSend: now)
    }

    func challengeDue(at now: Instant) -> Bool {
        guard let challenge else { return false }
        return challenge.sent < Self.maxChallenges && challenge.nextSend <= now
    }

    /// Asked again after a probe timeout (RFC 9000 section 9.4).
    mutating func challengeSent(pto: Duration, isExpanded: Bool, at now: Instant) {
        challenge?.sent += 1
        if !isExpanded { challenge?.isExpanded = false }
        challenge?.nextSend = now + pto
    }

    var deadline: Instant {
        guard let challenge else { return .distantFuture }
        return challenge.sent < Self.maxChallenges ? min(challenge.nextSend, challenge.deadline) : challenge.deadline
    }
}
