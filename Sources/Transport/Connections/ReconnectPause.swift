import QUIC

/// How long a receiver waits before it tries to connect again.
package enum ReconnectPause {
    /// The longest pause after a connection that had come about.
    package static var first: Duration { .milliseconds(500) }
    package static var longest: Duration { .seconds(30) }

    /// After a stateless reset: the source is there, and has just been started anew.
    package static func afterReset(random: inout some RandomNumberGenerator) -> Duration {
        first / 2 * Double.random(in: 0...1, using: &random)
    }

    /// A connection that has lasted so long was a good one, whatever ended it.
    package static var goodConduct: Duration { .seconds(60) }

    /// Twice as long with each attempt that failed, less up to a half of it by chance: receivers that lost their source in
    /// the same moment do not come back in the same moment.
    package static func afterFailures(_ count: Int, random: inout some RandomNumberGenerator) -> Duration {
        min(longest, first * (1 << min(count, 10))) * Double.random(in: 0.5...1, using: &random)
    }
}

extension CloseReason {
    /// One end found that the other does not keep to the protocol: it will mostly be so again.
    var isViolation: Bool {
        switch self {
        case .local(let error), .peer(let error): error.code != .noError
        case .localApplication, .peerApplication: true
        case .idleTimeout, .statelessReset, .versionNegotiation: false
        }
    }
}
