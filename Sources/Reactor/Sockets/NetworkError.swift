import CShims
import Glibc
import Wire

// What becomes of datagrams that did not arrive (IP_RECVERR, RFC 1122 section 4.1.3.3).
//
// Linux keeps ICMP errors in a queue of the socket, and has the next call on the socket fail, whichever it is and
// wherever it goes. A send that fails so has not been tried: it is tried again once the queue has been read.

/// What the network, or this host, says of a datagram that a socket sent. See `UDPOptions.receiveErrors`. Whoever can
/// guess address and port of both ends can forge it; `quoted` tells more (RFC 5927).
public struct NetworkError: Hashable, Sendable {
    /// What went wrong, by the type and code of the ICMP message (RFC 792, RFC 4443), or by this host's own error.
    public enum Kind: Hashable, Sendable {
        /// No route, or a network that is down.
        case networkUnreachable
        /// A router finds no host of this address on its link.
        case hostUnreachable
        /// Nobody listens there.
        case portUnreachable
        /// A filter does not let it pass.
        case prohibited
        /// The largest IP packet that gets through, in octets; 0 when that was not said.
        case tooLarge(mtu: Int)
        /// Something else.
        case other
    }

    /// What went wrong.
    public var kind: Kind
    /// Where the datagram was sent to.
    public var destination: SocketAddress
    /// Who says so; nil: this host.
    public var reporter: IPAddress?
    /// The first octets of the datagram's payload, as far as the error quotes them: at most 64, and possibly none
    /// (RFC 792).
    public var quoted: [UInt8]

    /// This host's own word unless `reporter` is given.
    public init(kind: Kind, destination: SocketAddress, reporter: IPAddress? = nil, quoted: [UInt8] = []) {
        self.kind = kind
        self.destination = destination
        self.reporter = reporter
        self.quoted = quoted
    }
}

extension NetworkError.Kind {
    /// By type and code of RFC 792 and RFC 1122 section 3.2.2.1, or of RFC 4443 section 3.
    init(_ error: fcio_error) {
        switch (error.family, error.type, error.code) {
        case (4, 3, 4), (6, 2, _): self = .tooLarge(mtu: Int(error.info))
        case (4, 3, 0), (4, 3, 6), (4, 3, 11), (6, 1, 0): self = .networkUnreachable
        case (4, 3, 1), (4, 3, 7), (4, 3, 12), (6, 1, 2), (6, 1, 3): self = .hostUnreachable
        case (4, 3, 2), (4, 3, 3), (6, 1, 4): self = .portUnreachable
        case (4, 3, 9), (4, 3, 10), (4, 3, 13), (6, 1, 1), (6, 1, 5), (6, 1, 6): self = .prohibited
        default: self = .other
        }
    }

    /// When a call fails at once.
    init?(refusal code: Int32) {
        switch code {
        case ENETUNREACH, ENETDOWN, EADDRNOTAVAIL: self = .networkUnreachable
        case EHOSTUNREACH, EHOSTDOWN: self = .hostUnreachable
        case EPERM, EACCES: self = .prohibited
        default: return nil
        }
    }
}

/// Errors of a socket that its handler has not been told yet.
struct PendingErrors {
    /// Errors kept; more are counted only.
    static let limit = 32
    /// How often one message is tried again because of errors about earlier ones.
    static let excusesPerMessage = 4

    var list: [NetworkError] = []
    var excuses = excusesPerMessage
}

extension UDPSocket {
    var takesErrors: Bool { options.receiveErrors }

    /// Takes errors from the kernel, a bounded number at once; true when there were any.
    @discardableResult
    func takeErrors() -> Bool {
        var found = false
        var error = fcio_error()
        var room = InlineArray<64, UInt8>(repeating: 0)
        for _ in 0..<PendingErrors.limit where isOpen {
            var octets = room.mutableSpan
            let outcome = unsafe octets.withUnsafeMutableBufferPointer { octets in
                unsafe fcio_next_error(descriptor, &error, octets.baseAddress, octets.count)
            }
            guard outcome == 1 else { break }
            found = true
            let quoted = [UInt8](room.span.extracting(0..<min(room.count, Int(error.count))))
            reactor.counters.networkErrors += 1
            // What this host itself says is told by the call that fails.
            guard error.family != 0, error.to.family != 0 else { continue }
            tell(
                NetworkError(
                    kind: .init(error), destination: SocketAddress(error.to),
                    reporter: error.reporter.family == 0 ? nil : IPAddress(error.reporter), quoted: quoted))
        }
        return found
    }

    /// Whether a send has failed only for what became of an earlier one.
    func isExcused() -> Bool {
        guard takeErrors(), errors.excuses > 0 else { return false }
        errors.excuses -= 1
        return true
    }

    /// The handler is told in this turn or the next, not from within a flush.
    func tell(_ error: NetworkError) {
        if errors.list.isEmpty { reactor.troubled.append(self) }
        if errors.list.count < PendingErrors.limit { errors.list.append(error) }
    }

    func reportErrors() {
        let list = errors.list
        errors.list = []
        for error in list where isOpen { handler?.networkErrorReceived(error, on: self) }
    }
}
