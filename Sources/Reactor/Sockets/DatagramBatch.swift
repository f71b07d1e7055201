import CShims
import Wire

/// Receives what arrives at a UDP socket.
public protocol DatagramHandler: AnyObject {
    /// Datagrams have come, at least one. They, and the spans of them, live until this returns.
    func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket)

    /// The socket refused to take more and has now taken all that was queued.
    func socketBecameWritable(_ socket: UDPSocket)

    /// A datagram that the socket sent did not arrive, or so it is said (`UDPOptions.receiveErrors`).
    func networkErrorReceived(_ error: NetworkError, on socket: UDPSocket)
}

extension DatagramHandler {
    /// For handlers that queue nothing again: does nothing.
    public func socketBecameWritable(_ socket: UDPSocket) {}
    /// For handlers that do not ask for it (`UDPOptions.receiveErrors`): does nothing.
    public func networkErrorReceived(_ error: NetworkError, on socket: UDPSocket) {}
}

/// Datagrams that arrived together, in order of arrival per sender. The octets lie where the kernel put them and may
/// be changed, so that packets are opened in place.
@safe public struct DatagramBatch: ~Copyable {
    private let inbox: UnsafeMutablePointer<fcio_inbox>
    private let port: UInt16
    /// How many datagrams there are, at least 1.
    public let count: Int

    init(_ inbox: UnsafeMutablePointer<fcio_inbox>, port: UInt16) {
        unsafe self.inbox = unsafe inbox
        self.port = port
        self.count = unsafe Int(inbox.pointee.datagram_count)
    }

    /// The octets of datagram `index`, possibly none.
    public subscript(index: Int) -> MutableSpan<UInt8> {
        @_lifetime(&self)
        mutating get {
            let datagram = unsafe self.datagram(index)
            let span = unsafe MutableSpan<UInt8>(_unsafeStart: datagram.octets, count: Int(datagram.count))
            return unsafe _overrideLifetime(span, mutating: &self)
        }
    }

    /// Calls `body` with the octets of datagram `index`.
    public mutating func withBytes<R: ~Copyable, E: Error>(
        _ index: Int, _ body: (inout MutableSpan<UInt8>) throws(E) -> R
    ) throws(E) -> R {
        var span = self[index]
        return try body(&span)
    }

    /// How many messages the datagrams came in: a datagram each, or several of one sender that the kernel has coalesced.
    public var messageCount: Int { unsafe Int(inbox.pointee.message_count) }

    /// The datagrams of message `index`, back to back: each of `messageSegment` octets but for the last. A message that had
    /// to be given up has none, and no octets.
    public mutating func withMessage<R: ~Copyable, E: Error>(
        _ index: Int, _ body: (inout MutableSpan<UInt8>, _ segment: Int, ECN) throws(E) -> R
    ) throws(E) -> R {
        precondition(index >= 0 && index < messageCount, "message \(index) of a batch of \(messageCount)")
        let message = unsafe inbox.pointee.messages[index]
        var span = unsafe MutableSpan<UInt8>(
            _unsafeElements: UnsafeMutableBufferPointer(start: message.octets, count: Int(message.count)))
        return try body(&span, unsafe Int(message.segment), ECN(rawValue: unsafe message.ecn) ?? .notECT)
    }

    /// Who sent datagram `index`.
    public func source(_ index: Int) -> SocketAddress {
        SocketAddress(unsafe message(index).source)
    }

    /// Where datagram `index` was sent to: the address in its IP header, which may be a group, and our port.
    public func local(_ index: Int) -> SocketAddress {
        SocketAddress(IPAddress(unsafe message(index).local), port: port)
    }

    /// The ECN mark of datagram `index`.
    public func ecn(_ index: Int) -> ECN {
        ECN(rawValue: unsafe message(index).ecn) ?? .notECT
    }

    /// The index of the interface that datagram `index` came in by.
    public func interface(_ index: Int) -> UInt32 {
        unsafe message(index).interface
    }

    @inline(__always)
    private func datagram(_ index: Int) -> fcio_datagram {
        precondition(index >= 0 && index < count, "datagram \(index) of a batch of \(count)")
        if unsafe !inbox.pointee.is_split { unsafe fcio_inbox_split(inbox) }
        return unsafe inbox.pointee.datagrams[index]
    }

    @inline(__always)  // A message has a hundred octets, of which each call wants a few.
    private func message(_ index: Int) -> fcio_message {
        unsafe inbox.pointee.messages[Int(datagram(index).message)]
    }
}

extension IPAddress {
    init(_ address: fcio_address) {
        self =
            address.family == 4
            ? .v4(UInt32(truncatingIfNeeded: address.low)) : .v6(UInt128(address.high) << 64 | UInt128(address.low))
    }
}

extension SocketAddress {
    init(_ address: fcio_address) {
        self.init(IPAddress(address), port: address.port)
    }
}

extension fcio_address {
    /// `scope` counts for link-local IPv6 addresses only.
    init(_ address: IPAddress, port: UInt16 = 0, scope: UInt32 = 0) {
        switch address {
        case .v4(let bits):
            self.init(high: 0, low: UInt64(bits), scope: 0, port: port, family: 4)
        case .v6(let bits):
            // fe80::/10, and the multicast scopes 1 and 2, which do not leave the link either.
            let local = bits >> 118 == 0x3fa || (bits >> 120 == 0xff && (1...2).contains((bits >> 112) & 15))
            self.init(
                high: UInt64(truncatingIfNeeded: bits >> 64), low: UInt64(truncatingIfNeeded: bits),
                scope: local ? scope : 0, port: port, family: 6)
        }
    }
}
