import CShims
import Glibc

/// io_uring: multishot receives into a ring of buffers, polls for everything else, and sends in one submission.
@safe final class RingBackend: Backend {
    let description: String
    var hasRings: Bool { true }

    private let ring: OpaquePointer
    private let inbox: UnsafeMutablePointer<fcio_inbox>
    /// Whose messages the inbox holds.
    private var inboxToken = Token()
    private var sources: [Source?] = []
    /// Sockets whose multishot receive ended and has to be asked for again.
    private var ended: [Token] = []
    private var isClosed = false
    private var isWaiting = false

    private struct Source {
        var token: Token
        var descriptor: Int32
        /// Batches that it was given in `turn`.
        var batches = 0
        var turn: UInt64 = 0
    }

    private var turn: UInt64 = 0
    private var batches = 0
    /// Whether some socket found no buffer.
    private var isShort = false
    /// Batches of the socket that had the most of them in this turn.
    private var mostBatches = 0
    /// How many those may be before all else has its turn.
    private static let fairness = 4

    /// What a completion answers, in the bits above the token's.
    private enum Request: UInt64 {
        case receive = 1
        case readable = 2
        case writable = 3

        func tag(_ token: Token) -> UInt64 { rawValue << 56 | token.bits }
    }

    init(reason: String) throws(ReactorError) {
        var made: OpaquePointer?
        var stage: UnsafePointer<CChar>?
        let code = unsafe fcio_ring_create(&made, &stage)
        guard code >= 0, let ring = unsafe made else {
            let call = unsafe stage.map { unsafe String(cString: $0) } ?? "io_uring"
            throw ReactorError(call, "", code: code, advice: Self.advice(-code))
        }
        guard let inbox = unsafe fcio_inbox_create() else {
            unsafe fcio_ring_destroy(ring)
            throw ReactorError("inbox", "", code: ENOMEM)
        }
        unsafe self.ring = unsafe ring
        unsafe self.inbox = unsafe inbox
        description = "io_uring (\(reason))"
        ended.reserveCapacity(16)
    }

    private static func advice(_ code: Int32) -> String? {
        switch code {
        case EPERM, EACCES: "kernel.io_uring_disabled or a seccomp filter forbids it"
        case ENOSYS: "the kernel has no io_uring, or a seccomp filter hides it"
        case ENOMEM: "the limit of locked memory is too small: raise `ulimit -l`"
        case EINVAL, EOPNOTSUPP: "it takes Linux 6.1"
        default: nil
        }
    }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        // A handler that closes the reactor still holds a batch, which lies in the ring's buffers.
        if !isWaiting { destroy() }
    }

    private func destroy() {
        unsafe fcio_ring_destroy(ring)
        unsafe fcio_inbox_destroy(inbox)
    }

    deinit { close() }

    var overflow: UInt64 { isClosed ? 0 : unsafe UInt64(fcio_ring_overflow(ring)) }

    func receive(_ token: Token, descriptor: Int32) throws(ReactorError) {
        try add(Source(token: token, descriptor: descriptor))
        let code = unsafe fcio_ring_receive(ring, descriptor, Request.receive.tag(token))
        if code < 0 { throw ReactorError("io_uring receive", "", code: code) }
    }

    func watch(_ token: Token, descriptor: Int32) throws(ReactorError) {
        try add(Source(token: token, descriptor: descriptor))
        let code = poll(descriptor, fcio_readable, .readable, token)
        if code < 0 { throw ReactorError("io_uring poll", "descriptor \(descriptor)", code: code) }
    }

    private func add(_ source: Source) throws(ReactorError) {
        guard !isClosed else { throw ReactorError("io_uring", "", reason: "it is closed") }
        while sources.count <= source.token.slot { sources.append(nil) }
        sources[source.token.slot] = source
    }

    func awaitWritable(_ token: Token, descriptor: Int32) {
        _ = poll(descriptor, fcio_writable, .writable, token)
    }

    private func poll(_ descriptor: Int32, _ interest: Int, _ request: Request, _ token: Token) -> Int32 {
        unsafe fcio_ring_poll(ring, descriptor, UInt32(interest), request.tag(token))
    }

    func remove(_ token: Token, descriptor: Int32) {
        sources[token.slot] = nil
        unsafe fcio_ring_cancel(ring, descriptor)
    }

    func send(_ outbox: OpaquePointer, count: UInt32, on descriptor: Int32) -> Int32 {
        unsafe fcio_ring_send(ring, outbox, descriptor, count)
    }

    func wait(nanoseconds: Int64, events sink: some BackendEvents) {
        isWaiting = true
        turn &+= 1
        mostBatches = 0
        var nanoseconds = nanoseconds
        var before = 0
        // One wait serves no more than 20 sockets and takes no more than 32 messages of each (Linux 6.18), and a few of
        // them can take all buffers. Whatever is there has its turn in this one, as with epoll.
        repeat {
            before = batches
            _ = unsafe fcio_ring_wait(ring, nanoseconds)
            dispatch(sink)
            nanoseconds = 0
        } while unsafe !isClosed && batches > before && mostBatches < Self.fairness
            && (isShort || fcio_ring_has_more(ring))
        isWaiting = false
        if isClosed { destroy() }
    }

    private func dispatch(_ sink: some BackendEvents) {
        isShort = false
        sink.countSystemCalls(1)
        var completion = fcio_completion()
        while !isClosed, unsafe fcio_ring_next(ring, &completion) {
            let token = Token(bits: completion.token & (1 << 56 - 1))
            guard let request = Request(rawValue: completion.token >> 56) else { continue }
            if request == .receive {
                received(completion, token, sink)
                continue
            }
            deliver(sink)
            guard let source = live(token), completion.result != -ECANCELED else { continue }
            if request == .writable {
                sink.writable(token)
            } else {
                sink.readable(token)
                // A poll answers once; asked again on a descriptor that is still readable it answers at once.
                if live(token) != nil { _ = poll(source.descriptor, fcio_readable, .readable, token) }
            }
        }
        guard !isClosed else { return }
        deliver(sink)
        for token in ended {
            guard let source = live(token) else { continue }
            _ = unsafe fcio_ring_receive(ring, source.descriptor, Request.receive.tag(token))
        }
        ended.removeAll(keepingCapacity: true)
    }

    private func received(_ completion: fcio_completion, _ token: Token, _ sink: some BackendEvents) {
        var completion = completion
        guard live(token) != nil else {
            unsafe fcio_ring_discard(ring, &completion)
            return
        }
        let isFull = unsafe fcio_inbox_is_full(inbox)
        if token != inboxToken || isFull { deliver(sink) }
        // The batch just delivered may have closed this socket, or everything.
        guard !isClosed else { return }
        guard live(token) != nil else {
            unsafe fcio_ring_discard(ring, &completion)
            return
        }
        if completion.has_buffer {
            inboxToken = token
            unsafe fcio_ring_take(ring, &completion, inbox)
        }
        if !completion.more { ended.append(token) }
        // All buffers are in this round's completions; the datagrams wait in the socket.
        if completion.result == -ENOBUFS {
            isShort = true
        } else if completion.result < 0 {
            sink.receiveFailed(-completion.result, for: token)
        }
    }

    /// Hands the inbox on, if there is anything in it, and its buffers back to the kernel.
    private func deliver(_ sink: some BackendEvents) {
        guard unsafe inbox.pointee.message_count > 0 else { return }
        countBatch(inboxToken.slot)
        unsafe sink.received(inbox, for: inboxToken)
        guard !isClosed else { return }
        unsafe fcio_ring_release(ring, inbox)
    }

    private func countBatch(_ slot: Int) {
        guard var source = sources[slot] else { return }
        source.batches = source.turn == turn ? source.batches + 1 : 1
        source.turn = turn
        sources[slot] = source
        mostBatches = max(mostBatches, source.batches)
        batches += 1
    }

    private func live(_ token: Token) -> Source? {
        guard token.slot < sources.count, let source = sources[token.slot], source.token == token else { return nil }
        return source
    }
}
