import CShims
import Glibc

/// A descriptor, such as a pipe or standard input, whose handler runs whenever there is something to read.
public final class FileWatch {
    /// The number the system knows it by.
    public let descriptor: Int32
    unowned let reactor: Reactor
    var token = Token()
    private(set) var handler: ((FileWatch) -> Void)?
    /// Runs once when a socket that was not writable is.
    var onWritable: (() -> Void)?
    private let ownsDescriptor: Bool

    init(reactor: Reactor, descriptor: Int32, owned: Bool, handler: @escaping (FileWatch) -> Void) {
        self.reactor = reactor
        self.descriptor = descriptor
        self.ownsDescriptor = owned
        self.handler = handler
    }

    /// False once it was cancelled: the handler runs no more.
    public var isActive: Bool { handler != nil }

    /// What `read` found.
    public enum Outcome: Sendable, Equatable {
        /// So many octets were appended, at least 1.
        case octets(Int)
        /// Nothing now; the handler runs when there is.
        case nothing
        /// The other side closed: nothing will follow.
        case end
    }

    /// Appends what is there, at most `limit` octets, without waiting.
    /// - Throws: `ReactorError` when the descriptor cannot be read.
    public func read(appendingTo bytes: inout [UInt8], limit: Int = 65_536) throws(ReactorError) -> Outcome {
        var result = 0
        let descriptor = descriptor
        bytes.append(addingCapacity: limit) { output in
            unsafe output.withUnsafeMutableBufferPointer { buffer, initialized in
                result = unsafe fcio_read_now(descriptor, buffer.baseAddress! + initialized, limit)
                initialized += max(0, result)
            }
        }
        if result > 0 { return .octets(result) }
        if result == 0 { return .end }
        if result == -Int(EAGAIN) || result == -Int(EINTR) { return .nothing }
        throw ReactorError("read", "descriptor \(descriptor)", code: Int32(result))
    }

    /// Ends the watch; closes the descriptor if it was handed over.
    public func cancel() {
        guard isActive else { return }
        reactor.remove(token, descriptor: descriptor)
        shutDown()
    }

    /// The old handler is let go after the change: what it holds may ask for this watch when it goes.
    func setHandler(_ new: ((FileWatch) -> Void)?) {
        let old = (handler, onWritable)
        handler = new
        if new == nil { onWritable = nil }
        withExtendedLifetime(old) {}
    }

    /// The reactor no longer knows this watch.
    func shutDown() {
        setHandler(nil)
        if ownsDescriptor { Glibc.close(descriptor) }
    }
}

/// How a child process ended.
public enum ProcessExit: Sendable, Equatable {
    /// It ended by itself, with this exit status: 0 to 255.
    case code(Int32)
    /// This signal killed it (signal(7)).
    case signal(Int32)
    /// Somebody else collected it.
    case unknown
}

extension Reactor {
    /// Runs `readable` whenever `descriptor` has something to read or has ended, until the watch is cancelled. The
    /// handler must read, or cancel: it runs again as long as something is left.
    /// `closing`: whether the watch closes the descriptor when it ends.
    @discardableResult
    public func watch(
        _ descriptor: Int32, closing: Bool = false, readable: @escaping (FileWatch) -> Void
    ) throws(ReactorError) -> FileWatch {
        let watch = FileWatch(reactor: self, descriptor: descriptor, owned: closing, handler: readable)
        watch.token = try add(.watch(watch)) { [backend] token throws(ReactorError) in
            try backend.watch(token, descriptor: descriptor)
        }
        return watch
    }

    /// Runs `exited` once when the child `process` has ended, and collects it.
    /// - Throws: `ReactorError` when there is no such process.
    @discardableResult
    public func watchProcess(
        _ process: pid_t, exited: @escaping (ProcessExit) -> Void
    ) throws(ReactorError) -> FileWatch {
        let descriptor = fcio_pidfd(process)
        guard descriptor >= 0 else { throw ReactorError("pidfd_open", "process \(process)", code: descriptor) }
        do throws(ReactorError) {
            return try watch(descriptor, closing: true) { watch in
                var code: Int32 = 0
                var bySignal = false
                let outcome = unsafe fcio_reap(watch.descriptor, &code, &bySignal)
                if outcome == -EAGAIN { return }
                watch.cancel()
                exited(outcome < 0 ? .unknown : bySignal ? .signal(code) : .code(code))
            }
        } catch {
            Glibc.close(descriptor)
            throw error
        }
    }

    /// Runs `handler` on the reactor's thread each time the process gets signal `number`, in place of the signal's
    /// default action, until the reactor closes. A later call for the same signal replaces the handler.
    /// - Throws: `ReactorError` when another reactor of this process watches the signal, or it cannot be caught.
    public func onSignal(_ number: Int32, _ handler: @escaping () -> Void) throws(ReactorError) {
        if let known = signals.firstIndex(where: { $0.number == number }) {
            signals[known].watch.setHandler(Self.signalHandler(handler))
            return
        }
        let descriptor = fcio_eventfd()
        guard descriptor >= 0 else { throw ReactorError("eventfd", "signal \(number)", code: descriptor) }
        let code = fcio_signal_watch(number, descriptor)
        guard code >= 0 else {
            Glibc.close(descriptor)
            let advice = code == -EBUSY ? "another reactor of this process watches it" : nil
            throw ReactorError("sigaction", "signal \(number)", code: code, advice: advice)
        }
        do throws(ReactorError) {
            let watch = try watch(descriptor, closing: true, readable: Self.signalHandler(handler))
            signals.append((number, watch))
        } catch {
            fcio_signal_unwatch(number)
            Glibc.close(descriptor)
            throw error
        }
    }

    private static func signalHandler(_ handler: @escaping () -> Void) -> (FileWatch) -> Void {
        { watch in
            fcio_eventfd_drain(watch.descriptor)
            handler()
        }
    }
}
