// A release build knows no @testable.
#if DEBUG
    @testable import Reactor

    /// A kernel that does as a test says: it sends through epoll, unless the test has it take less or refuse.
    final class StandInBackend: Backend {
        enum Answer {
            /// Takes so many messages of those it is given.
            case takes(UInt32)
            /// Refuses the first with this error number.
            case refuses(Int32)
        }

        /// What becomes of so many messages.
        var answer: (_ count: UInt32) -> Answer = { .takes($0) }
        /// Whether sockets that wait for room are told that there is some.
        var hasRoom = true
        private let inner: EpollBackend
        private var blocked: [Token] = []

        init() throws { inner = try EpollBackend(reason: "stands in") }

        /// A reactor on this backend.
        func makeReactor() throws -> Reactor { try Reactor(backend: self) }

        var description: String { inner.description }
        var hasRings: Bool { false }
        var overflow: UInt64 { 0 }

        func receive(_ token: Token, descriptor: Int32) throws(ReactorError) {
            try inner.receive(token, descriptor: descriptor)
        }

        func watch(_ token: Token, descriptor: Int32) throws(ReactorError) {
            try inner.watch(token, descriptor: descriptor)
        }

        func awaitWritable(_ token: Token, descriptor: Int32) { blocked.append(token) }
        func remove(_ token: Token, descriptor: Int32) { inner.remove(token, descriptor: descriptor) }
        func close() { inner.close() }

        func wait(nanoseconds: Int64, events: some BackendEvents) {
            inner.wait(nanoseconds: hasRoom && !blocked.isEmpty ? 0 : nanoseconds, events: events)
            guard hasRoom else { return }
            let tokens = blocked
            blocked = []
            for token in tokens { events.writable(token) }
        }

        func send(_ outbox: OpaquePointer, count: UInt32, on descriptor: Int32) -> Int32 {
            switch answer(count) {
            case .takes(let taken): unsafe inner.send(outbox, count: taken, on: descriptor)
            case .refuses(let code): -code
            }
        }
    }
#endif
