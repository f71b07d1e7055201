import CShims
import Synchronization

/// The door by which other threads reach a reactor's thread. Sendable, and safe to use after the reactor has gone.
public final class Wakeup: Sendable {
    /// A piece of work for the reactor's thread.
    public typealias Work = @Sendable (Reactor) -> Void

    /// How many pieces of work may wait; `post` and `Mailbox.send` refuse more, and `refusedCount` counts them.
    public static let limit = 65_536

    private struct State {
        var work: [Work] = []
        var descriptor: Int32
        var signalled = false
        var refused: UInt64 = 0
    }

    private let state: Mutex<State>

    init(descriptor: Int32) {
        state = Mutex(State(descriptor: descriptor))
    }

    /// Has `work` run on the reactor's thread in its next turn, after work posted before. False, and nothing will
    /// run, when the reactor is closed or `limit` pieces wait already.
    @discardableResult
    public func post(_ work: @escaping Work) -> Bool {
        state.withLock { state in
            guard state.descriptor >= 0, state.work.count < Self.limit else {
                state.refused += 1
                return false
            }
            state.work.append(work)
            if !state.signalled {
                state.signalled = true
                fcio_eventfd_signal(state.descriptor)
            }
            return true
        }
    }

    /// Pieces of work that were refused, because as many as may waited or the reactor was closed.
    public var refusedCount: UInt64 { state.withLock { $0.refused } }

    /// What was posted since the last call, in order.
    func take() -> [Work] {
        state.withLock { state in
            fcio_eventfd_drain(state.descriptor)
            state.signalled = false
            defer { state.work = [] }
            return state.work
        }
    }

    /// Refuses what comes from now on; the descriptor is the caller's to close.
    func close() {
        // The work is let go outside of the lock: what it holds may post when it goes.
        let work = state.withLock { state in
            state.descriptor = -1
            defer { state.work = [] }
            return state.work
        }
        withExtendedLifetime(work) {}
    }
}

/// A way for other threads to hand values to a handler on the reactor's thread, which need not be Sendable itself.
/// Made by `Reactor.mailbox`.
public struct Mailbox<Message: Sendable>: Sendable {
    let wakeup: Wakeup
    let number: Int

    /// Delivers `message` in the reactor's next turn, in order. False when the reactor is closed or its queue full.
    @discardableResult
    public func send(_ message: Message) -> Bool {
        wakeup.post { [number] reactor in
            (reactor.mailboxes[number] as? MailboxHandler<Message>)?.handle(message)
        }
    }
}

final class MailboxHandler<Message: Sendable> {
    let handle: (Message) -> Void

    init(_ handle: @escaping (Message) -> Void) { self.handle = handle }
}

extension Reactor {
    /// A mailbox whose messages `handler` gets on this reactor's thread, for as long as the reactor lives.
    public func mailbox<Message: Sendable>(
        of type: Message.Type = Message.self, _ handler: @escaping (Message) -> Void
    ) -> Mailbox<Message> {
        mailboxes.append(MailboxHandler(handler))
        return Mailbox(wakeup: wakeup, number: mailboxes.count - 1)
    }
}
