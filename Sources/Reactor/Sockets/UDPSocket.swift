import CShims
import Glibc
import Wire

/// A UDP socket on a reactor. Its reactor keeps it open until `close`, or until the reactor itself closes.
/// The essay at the top of Reactor.swift shows how to receive and send.
public final class UDPSocket {
    /// The most a single datagram may carry.
    public static let datagramLimit = SendQueue.datagramLimit
    /// The most that `withSendBuffer` gives.
    public static let batchLimit = SendQueue.chunkSize
    /// How many datagrams of `size` octets one segmented send carries.
    public static func segments(of size: Int) -> Int { SendQueue.segments(of: size) }

    /// Gets what arrives. Not kept alive by the socket.
    public weak var handler: (any DatagramHandler)?
    /// The address bound to; its port is a real one also when port 0 was asked for.
    public let localAddress: SocketAddress
    /// As it was opened with; what the kernel granted of it may be less.
    public let options: UDPOptions
    /// Octets of the kernel's receive buffer as granted (the kernel counts its own overhead in).
    public let receiveBuffer: Int
    /// False from the moment the kernel refuses to take more until it has taken all that was queued.
    public private(set) var isWritable = true
    /// False once it was closed.
    public var isOpen: Bool { queue.isOpen }

    unowned let reactor: Reactor
    let descriptor: Int32
    /// What the network says and the handler has not been told yet.
    var errors = PendingErrors()
    var token = Token()
    /// The drop total last heard from the kernel.
    private var drops: UInt32 = 0
    private let family: Int32
    private var queue: SendQueue
    private var zeroCopy: ZeroCopySender?
    private var zeroCopyRefusal: String?
    /// Asks again for chunks that the kernel keeps, while there is no other.
    private var keptTimer: TimerHandle?

    init(reactor: Reactor, bind address: SocketAddress, options: UDPOptions) throws(ReactorError) {
        self.reactor = reactor
        self.options = options
        family = address.address.isIPv4 ? 4 : 6
        let scope: UInt32 = if let name = options.multicastInterface { try NetworkInterface.index(of: name) } else { 0 }
        let fd = fcio_udp_socket(family)
        guard fd >= 0 else { throw ReactorError("socket", "UDP over IPv\(family)", code: fd) }
        do throws(ReactorError) {
            try Self.apply(options, to: fd, family: family, scope: scope)
            (localAddress, receiveBuffer) = try Self.bind(fd, to: address, family: family, scope: scope)
        } catch {
            Glibc.close(fd)
            throw error
        }
        descriptor = fd
        queue = SendQueue(arena: options.sendArena, scope: scope, segmenting: options.segment)
        makeZeroCopy()
    }

    /// A socket that was handed over, bound as it is.
    init(reactor: Reactor, inherited: InheritedSocket, options: UDPOptions) throws(ReactorError) {
        self.reactor = reactor
        self.options = options
        let fd = inherited.descriptor
        var bound = fcio_address()
        family = unsafe fcio_adopt_udp(fd, &bound)
        let scope: UInt32 = if let name = options.multicastInterface { try NetworkInterface.index(of: name) } else { 0 }
        var left = options
        // Who made it may give it more room than we may. Twice what was asked for is what the kernel counts.
        if let size = options.receiveBuffer, Int(fcio_buffer_size(fd, true)) >= 2 * size { left.receiveBuffer = nil }
        if let size = options.sendBuffer, Int(fcio_buffer_size(fd, false)) >= 2 * size { left.sendBuffer = nil }
        try Self.apply(left, to: fd, family: family, scope: scope, isBound: true)
        localAddress = inherited.address
        receiveBuffer = Int(fcio_buffer_size(fd, true))
        descriptor = fd
        queue = SendQueue(arena: options.sendArena, scope: scope, segmenting: options.segment)
        makeZeroCopy()
    }

    private func makeZeroCopy() {
        guard options.zeroCopy != .off else { return }
        guard reactor.backend.hasRings else {
            zeroCopyRefusal = "off: it takes io_uring"
            return
        }
        do throws(ReactorError) {
            let room = unsafe queue.room
            zeroCopy = unsafe try ZeroCopySender(
                options.zeroCopy, arena: room.start, octets: room.octets, descriptor: descriptor, family: family)
        } catch {
            zeroCopyRefusal = "off: \(error)"
        }
    }

    /// Whether it sends without a copy, and why: one line for people.
    public var zeroCopyDescription: String {
        zeroCopy?.choice.reason ?? zeroCopyRefusal ?? "off, as asked"
    }
    /// Sends without a copy that the kernel has done with, those of them that it copied all the same, and those that it
    /// still reads.
    public var zeroCopyUsage: (done: UInt64, copied: UInt64, held: Int) {
        guard let zeroCopy else { return (0, 0, 0) }
        return (zeroCopy.usage.done, zeroCopy.usage.copied, zeroCopy.held)
    }

    private static func apply(
        _ options: UDPOptions, to fd: Int32, family: Int32, scope: UInt32, isBound: Bool = false
    ) throws(ReactorError) {
        func set(_ option: fcio_option, _ value: Int, _ name: String) throws(ReactorError) {
            let code = fcio_set_option(fd, family, option, Int32(clamping: value))
            if code < 0 { throw ReactorError("setsockopt", "\(name) \(value)", code: code) }
        }
        func set(_ option: fcio_option, _ value: Bool, _ name: String) throws(ReactorError) {
            try set(option, value ? 1 : 0, name)
        }
        // Whoever bound it chose.
        if !isBound { try set(fcio_only_ipv6, options.onlyIPv6, "IPV6_V6ONLY") }
        if options.reuseAddress { try set(fcio_reuse_address, true, "SO_REUSEADDR") }
        if options.reusePort { try set(fcio_reuse_port, true, "SO_REUSEPORT") }
        if let size = options.receiveBuffer { try set(fcio_receive_buffer, size, "SO_RCVBUF") }
        if let size = options.sendBuffer { try set(fcio_send_buffer, size, "SO_SNDBUF") }
        if scope != 0 { try set(fcio_multicast_interface, Int(scope), "IP_MULTICAST_IF") }
        try set(fcio_multicast_ttl, Int(options.multicastTTL), "IP_MULTICAST_TTL")
        if let ttl = options.unicastTTL { try set(fcio_unicast_ttl, Int(ttl), "IP_TTL") }
        try set(fcio_multicast_loop, options.multicastLoop, "IP_MULTICAST_LOOP")
        try set(fcio_multicast_all, false, "IP_MULTICAST_ALL")
        try set(fcio_dont_fragment, options.dontFragment, "IP_MTU_DISCOVER")
        try set(fcio_receive_details, true, "IP_PKTINFO")
        if options.receiveErrors { try set(fcio_receive_errors, true, "IP_RECVERR") }
        // Coalescing only saves work: a kernel before 5.0 does without.
        _ = fcio_set_option(fd, family, fcio_receive_coalescing, options.coalesce ? 1 : 0)
    }

    private static func bind(
        _ fd: Int32, to address: SocketAddress, family: Int32, scope: UInt32
    ) throws(ReactorError) -> (SocketAddress, Int) {
        let code = fcio_bind(fd, family, fcio_address(address.address, port: address.port, scope: scope))
        if code < 0 {
            let advice: String? =
                switch -code {
                case EADDRINUSE: "another socket has it: choose another port, 0 for any free one"
                case EADDRNOTAVAIL: "no interface of this machine has that address: use 0.0.0.0 or [::] for all"
                case EACCES: "ports below 1024 need a privilege: choose a higher one"
                default: nil
                }
            throw ReactorError("bind", "\(address)", code: code, advice: advice)
        }
        var bound = fcio_address()
        let named = unsafe fcio_local_address(fd, &bound)
        guard named >= 0 else { throw ReactorError("getsockname", "\(address)", code: named) }
        return (SocketAddress(IPAddress(bound), port: bound.port), Int(fcio_buffer_size(fd, true)))
    }

    // MARK: receiving

    /// One batch from the kernel, counted and handed on.
    func deliver(_ inbox: UnsafeMutablePointer<fcio_inbox>) {
        let counts = unsafe inbox.pointee
        unsafe reactor.countReceived(counts)
        if unsafe counts.has_drops {
            // The kernel's total wraps at 32 bits.
            reactor.counters.kernelDrops += unsafe UInt64(counts.drops &- drops)
            drops = unsafe counts.drops
        }
        guard unsafe counts.datagram_count > 0 else { return }
        var batch = unsafe DatagramBatch(inbox, port: localAddress.port)
        handler?.datagramsReceived(&batch, on: self)
    }

    // MARK: sending

    /// Octets that wait to be taken by the kernel.
    public var queuedOctets: Int { queue.queuedOctets }

    /// Calls `body` with `count` octets of room (at most `batchLimit`) and returns what it returns; whatever it
    /// wrote at their start is then queued by `enqueue`, or forgotten if that is not called. Nil when the queue is
    /// full or the socket closed: wait for `socketBecameWritable`. The room's old contents are arbitrary.
    @inlinable
    public func withSendBuffer<R, E: Error>(
        _ count: Int, _ body: (inout MutableSpan<UInt8>) throws(E) -> R
    ) throws(E) -> R? {
        guard let room = unsafe reserve(count) else { return nil }
        var span = unsafe MutableSpan<UInt8>(_unsafeStart: room, count: count)
        return try body(&span)
    }

    @usableFromInline
    func reserve(_ count: Int) -> UnsafeMutablePointer<UInt8>? {
        if let room = unsafe queue.reserve(count, pastBatch: false) { return unsafe room }
        guard isOpen else { return nil }
        flush()
        if let room = unsafe queue.reserve(count, pastBatch: true) { return unsafe room }
        if let zeroCopy, zeroCopy.held > 0 {
            zeroCopy.takeBack(&queue, look: true, calls: &reactor.counters.systemCalls)
            if let room = unsafe queue.reserve(count, pastBatch: true) { return unsafe room }
            if isWritable { awaitChunks() }
        }
        reactor.counters.sendQueueFull += 1
        return nil
    }

    /// Queues the first `count` octets of the room last given by `withSendBuffer`, or those after what was queued of it
    /// already, as one datagram, or as several of `segment` octets each, the last possibly shorter. Neighbours with the
    /// same destination, origin, mark and size join into one segmented send. It leaves with the next `flush`, at the end of the turn at the latest.
    /// - Parameters:
    ///   - count: octets of all datagrams.
    ///   - segment: octets of each; nil makes it one datagram.
    ///   - to: where they go.
    ///   - from: the local address to send from; nil, a group or an unspecified one: the kernel chooses.
    ///   - ecn: the ECN mark of the IP header.
    public func enqueue(
        _ count: Int, segment: Int? = nil, to: SocketAddress, from: IPAddress? = nil, ecn: ECN = .notECT
    ) {
        finish(queue.enqueue(count, segment: segment ?? count, to: to, from: from, ecn: ecn))
    }

    /// Queues what the last `enqueue` queued once more, for another destination, without copying it. To be called before
    /// the next `withSendBuffer`; without an `enqueue` before it does nothing.
    /// - Returns: Whether all of it is queued.
    @discardableResult
    public func enqueueAgain(to: SocketAddress, from: IPAddress? = nil, ecn: ECN = .notECT) -> Bool {
        let enqueued = queue.enqueueAgain(to: to, from: from, ecn: ecn)
        finish(enqueued)
        return isOpen && enqueued != .dropped
    }

    /// Whether `count` more runs to as many destinations can be queued, at the most as many as the queue holds, and none of
    /// them is lost. What is queued goes to the kernel before that, if there is no room for them else.
    public func hasRoom(forRuns count: Int) -> Bool {
        guard isOpen, isWritable else { return false }
        if queue.runCount + count <= SendQueue.runLimit { return true }
        flush()
        return isWritable
    }

    private func finish(_ enqueued: SendQueue.Enqueued) {
        switch enqueued {
        case .nothing: break
        case .markDirty: reactor.dirty.append(self)
        case .flush: flush()
        case .dropped:
            reactor.counters.sendQueueFull += 1
            flush()
        }
    }

    /// The reactor's list of sockets to flush has come to this one.
    func turnFlush() {
        queue.isDirty = false
        flush()
    }

    /// Hands what is queued to the kernel now. What it does not take stays queued, and `isWritable` becomes false.
    public func flush() {
        guard isOpen, isWritable, !queue.isEmpty else { return }
        let reactor = reactor
        repeat {
            let (result, count) = if let zeroCopy { send(zeroCopy) } else { sendCopied(reactor) }
            if result > 0 {
                if takesErrors { errors.excuses = PendingErrors.excusesPerMessage }
                // An error that ended the call is the kernel's secret, and gone; its reason waits in the queue.
                if takesErrors, result < count { takeErrors() }
                reactor.counters.sent(messages: Int(result), queue.advance(messages: Int(result)))
                continue
            }
            reactor.counters.sendBatches += 1
            if result == -EAGAIN {
                block()
                return
            }
            refused(code: -result)
        } while !queue.isEmpty
    }

    /// Sends what is queued: how many messages went, or a negative errno, and of how many.
    private func sendCopied(_ reactor: Reactor) -> (result: Int32, count: UInt32) {
        let count = unsafe queue.fill(reactor.outbox, family: family)
        reactor.counters.systemCalls += 1
        return (unsafe reactor.backend.send(reactor.outbox, count: count, on: descriptor), count)
    }

    /// The same the way that is chosen.
    private func send(_ zeroCopy: ZeroCopySender) -> (result: Int32, count: UInt32) {
        let runs = queue.zeroCopyPrefix(limit: Int(fcio_batch_limit))
        var (way, isMeasured) = zeroCopy.choice.next(octets: runs.octets, at: reactor.now)
        if runs.runs == 0 { (way, isMeasured) = (.copy, false) }
        let start = isMeasured ? Meters.threadTime : 0
        let before = queue.queuedOctets
        var calls: UInt64 = 0
        var result: (result: Int32, count: UInt32) = (0, 0)
        if way == .zeroCopy {
            queue.endRun()
            result = (zeroCopy.send(&queue, count: runs.runs, calls: &calls), UInt32(runs.runs))
            if result.result < 0, result.result != -EAGAIN || !zeroCopy.isUsable {
                // Too little memory, or a way that cannot be segmented: the ordinary send tells.
                if zeroCopy.isUsable {
                    zeroCopy.choice.failed("\(ReactorError("send_zc", "", code: result.result))", at: reactor.now)
                }
                way = .copy
                isMeasured = false
            }
            zeroCopy.takeBack(&queue, look: false, calls: &calls)
        }
        if way == .copy {
            zeroCopy.leave(calls: &calls)
            result = sendCopied(reactor)
        }
        reactor.counters.systemCalls += calls
        if isMeasured, result.result > 0 {
            let octets = queue.octets(first: Int(result.result))
            zeroCopy.choice.measured(
                way, nanoseconds: Meters.threadTime - start, octets: min(octets, before), at: reactor.now)
        }
        return result
    }

    /// All chunks are the kernel's: asks for them again soon.
    private func awaitChunks() {
        isWritable = false
        reactor.counters.sendBlocked += 1
        if keptTimer == nil {
            keptTimer = reactor.timer { [unowned self] in
                guard isOpen, let zeroCopy else { return }
                zeroCopy.takeBack(&queue, look: true, calls: &reactor.counters.systemCalls)
                becameWritable()
            }
        }
        keptTimer?.schedule(at: reactor.now + .milliseconds(1))
    }

    private func block() {
        isWritable = false
        reactor.counters.sendBlocked += 1
        reactor.backend.awaitWritable(token, descriptor: descriptor)
    }

    /// The kernel refuses the first message, for a reason that will not go away by waiting.
    private func refused(code: Int32) {
        // An interface without checksum offload, one that cannot segment, or a segment above its MTU: EMSGSIZE, before
        // Linux 6.14 EINVAL as well.
        if takesErrors, isExcused() { return }
        if code == EIO || code == EINVAL || code == EMSGSIZE, queue.makePlain() {
            reactor.counters.segmentationFallbacks += 1
            return
        }
        if takesErrors, let kind = NetworkError.Kind(refusal: code), let first = queue.first {
            tell(NetworkError(kind: kind, destination: first.to, quoted: first.octets))
        }
        let lost = UInt64(queue.advance().datagrams)
        switch code {
        case EMSGSIZE: reactor.counters.sendErrors.tooLarge += lost
        case ENETUNREACH, EHOSTUNREACH, ECONNREFUSED, ENETDOWN, EHOSTDOWN, EADDRNOTAVAIL, ENODEV:
            reactor.counters.sendErrors.unreachable += lost
        case EPERM, EACCES: reactor.counters.sendErrors.forbidden += lost
        case ENOBUFS, ENOMEM: reactor.counters.sendErrors.noBuffers += lost
        default: reactor.counters.sendErrors.other += lost
        }
    }

    /// The kernel says there is room again.
    func becameWritable() {
        guard isOpen, !isWritable else { return }
        isWritable = true
        flush()
        if isWritable { handler?.socketBecameWritable(self) }
    }

    // MARK: closing

    /// Closes the socket at once: what is still queued is given up. Leaves all groups.
    public func close() {
        guard isOpen else { return }
        reactor.remove(token, descriptor: descriptor)
        shutDown()
    }

    /// The reactor no longer knows this socket.
    func shutDown() {
        queue.isOpen = false
        isWritable = false
        queue.removeAll()
        keptTimer = nil
        // What the kernel still reads stays where it is until it has left: the pages are its own, too.
        zeroCopy?.close()
        Glibc.close(descriptor)
    }
}
