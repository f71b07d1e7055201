import CShims
import Wire

/// Names a socket or a watched descriptor towards the kernel. The generation tells a late event of a closed source
/// from one of its successor.
struct Token: Hashable {
    /// Slot in the low 32 bits, generation in the 24 above.
    var bits: UInt64 = 0

    init() {}
    init(bits: UInt64) { self.bits = bits }
    init(slot: Int, generation: UInt32) {
        bits = UInt64(generation & 0xff_ffff) << 32 | UInt64(UInt32(slot))
    }

    var slot: Int { Int(bits & 0xffff_ffff) }
}

/// What the kernel reports, handed to the reactor while `wait` runs.
protocol BackendEvents: AnyObject {
    /// `inbox` holds what came for the socket `token`.
    func received(_ inbox: UnsafeMutablePointer<fcio_inbox>, for token: Token)
    /// `code` is EAGAIN when there was nothing to receive after all: there may be an error to take.
    func receiveFailed(_ code: Int32, for token: Token)
    func writable(_ token: Token)
    func readable(_ token: Token)
    /// How many system calls went into this.
    func countSystemCalls(_ count: Int)
}

/// What differs between io_uring and epoll; everything above is the same code.
protocol Backend: AnyObject {
    /// One line for people: which it is and why.
    var description: String { get }
    /// Whether sockets may send through rings of their own.
    var hasRings: Bool { get }

    /// Starts to receive datagrams from a socket.
    func receive(_ token: Token, descriptor: Int32) throws(ReactorError)
    /// Reports, until `remove`, each time the descriptor is found readable.
    func watch(_ token: Token, descriptor: Int32) throws(ReactorError)
    /// Reports once when the socket takes more.
    func awaitWritable(_ token: Token, descriptor: Int32)
    /// Ends all of the above. No event of `token` follows, and the kernel holds no reference to the descriptor.
    func remove(_ token: Token, descriptor: Int32)

    /// Reports what is there, after waiting for at most `nanoseconds` (negative: for ever) when there is nothing.
    func wait(nanoseconds: Int64, events: some BackendEvents)
    /// Sends messages in order: how many the kernel took, or the negative errno of the first when it took none.
    func send(_ outbox: OpaquePointer, count: UInt32, on descriptor: Int32) -> Int32

    /// Completions the kernel had to drop.
    var overflow: UInt64 { get }
    func close()
}

extension Reactor {
    /// Which of the two to use.
    public enum IO: String, Sendable, CaseIterable {
        /// io_uring where it works, else epoll.
        case auto
        /// io_uring, or none: what the kernel lacks or forbids is an error.
        case ioUring = "io_uring"
        /// epoll, with sendmmsg and recvmmsg.
        case epoll
    }

    static func makeBackend(
        _ io: IO, ring: (String) throws(ReactorError) -> any Backend = RingBackend.init(reason:)
    ) throws(ReactorError) -> any Backend {
        switch io {
        case .epoll:
            return try EpollBackend(reason: "as asked")
        case .ioUring:
            return try ring("as asked")
        case .auto:
            do throws(ReactorError) {
                return try ring("it works here")
            } catch {
                return try EpollBackend(reason: "\(error)")
            }
        }
    }
}
