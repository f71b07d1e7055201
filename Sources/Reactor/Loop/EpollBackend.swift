import CShims
import Glibc

/// epoll, recvmmsg and sendmmsg.
@safe final class EpollBackend: Backend {
    let description: String
    var hasRings: Bool { false }
    let overflow: UInt64 = 0

    private let epoll: Int32
    private let inbox: UnsafeMutablePointer<fcio_inbox>
    private let events: UnsafeMutablePointer<fcio_event>
    private static let eventLimit: UInt32 = 64
    /// Batches taken from one socket before the others have their turn.
    private static let fairness = 4

    /// What each slot is: nil when unused.
    private var sources: [Source?] = []
    /// Descriptors epoll refuses because they are always ready: regular files, /dev/null.
    private var alwaysReadable: [Token] = []

    private struct Source {
        var token: Token
        var descriptor: Int32
        var isSocket: Bool
        /// Messages to ask for: few when they are large, so that they stay in the cache.
        var limit: UInt32 = UInt32(fcio_batch_limit)
    }

    init(reason: String) throws(ReactorError) {
        description = "epoll (\(reason))"
        epoll = fcio_epoll_create()
        guard epoll >= 0 else { throw ReactorError("epoll_create1", "", code: epoll) }
        guard let inbox = unsafe fcio_inbox_create() else { throw ReactorError("inbox", "", code: ENOMEM) }
        unsafe self.inbox = unsafe inbox
        unsafe events = .allocate(capacity: Int(Self.eventLimit))
    }

    func close() {
        Glibc.close(epoll)
    }

    deinit {
        unsafe fcio_inbox_destroy(inbox)
        unsafe events.deallocate()
    }

    func receive(_ token: Token, descriptor: Int32) throws(ReactorError) {
        try add(Source(token: token, descriptor: descriptor, isSocket: true))
    }

    func watch(_ token: Token, descriptor: Int32) throws(ReactorError) {
        try add(Source(token: token, descriptor: descriptor, isSocket: false))
    }

    private func add(_ source: Source) throws(ReactorError) {
        let code = fcio_epoll_set(epoll, source.descriptor, UInt32(fcio_readable), source.token.bits, false)
        if code == -EPERM {
            alwaysReadable.append(source.token)
        } else if code < 0 {
            throw ReactorError("epoll_ctl", "descriptor \(source.descriptor)", code: code)
        }
        while sources.count <= source.token.slot { sources.append(nil) }
        sources[source.token.slot] = source
    }

    func awaitWritable(_ token: Token, descriptor: Int32) {
        let interest = UInt32(fcio_readable | fcio_writable)
        _ = fcio_epoll_set(epoll, descriptor, interest, token.bits, true)
    }

    func remove(_ token: Token, descriptor: Int32) {
        sources[token.slot] = nil
        alwaysReadable.removeAll { $0 == token }
        _ = fcio_epoll_remove(epoll, descriptor)
    }

    func send(_ outbox: OpaquePointer, count: UInt32, on descriptor: Int32) -> Int32 {
        unsafe fcio_outbox_send(outbox, descriptor, count)
    }

    func wait(nanoseconds: Int64, events sink: some BackendEvents) {
        let timeout = alwaysReadable.isEmpty ? nanoseconds : 0
        let count = unsafe fcio_epoll_wait(epoll, events, Self.eventLimit, timeout)
        sink.countSystemCalls(1)
        for index in 0..<max(0, Int(count)) {
            let event = unsafe events[index]
            let token = Token(bits: event.token)
            // An earlier event of this round may have closed it.
            guard let source = live(token) else { continue }
            if event.interest & UInt32(fcio_writable) != 0 {
                _ = fcio_epoll_set(epoll, source.descriptor, UInt32(fcio_readable), token.bits, true)
                sink.writable(token)
            }
            if event.interest & UInt32(fcio_readable) != 0 {
                if source.isSocket { drain(token, sink) } else if live(token) != nil { sink.readable(token) }
            }
        }
        for token in alwaysReadable where live(token) != nil { sink.readable(token) }
    }

    private func live(_ token: Token) -> Source? {
        guard token.slot < sources.count, let source = sources[token.slot], source.token == token else { return nil }
        return source
    }

    private func drain(_ token: Token, _ sink: some BackendEvents) {
        for _ in 0..<Self.fairness {
            guard let source = live(token) else { return }
            unsafe fcio_inbox_clear(inbox)
            let count = unsafe fcio_receive(inbox, source.descriptor, source.limit)
            sink.countSystemCalls(1)
            guard count > 0 else {
                if count != -EINTR { sink.receiveFailed(-count, for: token) }
                return
            }
            let mean = unsafe Int(inbox.pointee.octets) / Int(count)
            sources[token.slot]?.limit = mean > 4096 ? 16 : UInt32(fcio_batch_limit)
            unsafe sink.received(inbox, for: token)
            if count < source.limit { return }
        }
    }
}
