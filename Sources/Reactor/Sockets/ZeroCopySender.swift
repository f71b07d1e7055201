import CShims
import Glibc
import Wire

/// A socket's way to send straight from its arena: a ring of its own, in which the arena is a registered buffer.
@safe final class ZeroCopySender {
    private let sender: OpaquePointer
    private let descriptor: Int32
    private let family: Int32
    var choice: ZeroCopyChoice
    private var isClosed = false
    private var seen: (done: UInt64, copied: UInt64) = (0, 0)

    /// - Throws: why the arena cannot be registered.
    init(
        _ mode: ZeroCopyMode, arena: UnsafeMutablePointer<UInt8>, octets: Int, descriptor: Int32, family: Int32
    ) throws(ReactorError) {
        var made: OpaquePointer?
        var stage: UnsafePointer<CChar>?
        let code = unsafe fcio_zerocopy_create(&made, arena, octets, &stage)
        guard code >= 0, let sender = unsafe made else {
            let call = unsafe stage.map { unsafe String(cString: $0) } ?? "io_uring"
            throw ReactorError(
                call, "\(octets) octets", code: code,
                advice: code == -ENOMEM ? "the limit of locked memory is too small: raise `ulimit -l`" : nil)
        }
        unsafe self.sender = unsafe sender
        self.descriptor = descriptor
        self.family = family
        choice = ZeroCopyChoice(mode)
    }

    /// Sends the first runs of `queue`, which all can go this way: how many went, or the negative errno of the first.
    func send(_ queue: inout SendQueue, count: Int, calls: inout UInt64) -> Int32 {
        let sent = unsafe fcio_zerocopy_send(sender, descriptor, family, queue.next, UInt32(count), &calls)
        queue.hold(first: count)
        let failure = unsafe fcio_zerocopy_failure(sender)
        if failure != 0 { choice.end("\(ReactorError("io_uring_enter", "", code: failure))") }
        return sent
    }

    /// Whether anything can be sent this way at all.
    var isUsable: Bool { unsafe fcio_zerocopy_failure(sender) == 0 }

    /// Makes the socket fit for ordinary sends again.
    func leave(calls: inout UInt64) { unsafe fcio_zerocopy_leave(sender, descriptor, &calls) }

    /// Gives the queue the chunks that the kernel no longer reads. With `look` it is asked, by a system call.
    func takeBack(_ queue: inout SendQueue, look: Bool, calls: inout UInt64) {
        guard !isClosed else { return }
        var chunk = unsafe fcio_zerocopy_next(sender, look, &calls)
        guard chunk >= 0 else { return }
        while chunk >= 0 {
            queue.giveBack(Int(chunk))
            chunk = unsafe fcio_zerocopy_next(sender, false, &calls)
        }
        var done: UInt64 = 0
        var copied: UInt64 = 0
        unsafe fcio_zerocopy_usage(sender, &done, &copied)
        choice.gaveBack(Int(done - seen.done), copied: Int(copied - seen.copied))
        seen = (done, copied)
    }

    /// Sends that the kernel still reads.
    var held: Int { isClosed ? 0 : unsafe Int(fcio_zerocopy_held(sender)) }
    /// Sends that it has given back, and those of them that it had copied.
    var usage: (done: UInt64, copied: UInt64) { seen }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        unsafe fcio_zerocopy_destroy(sender)
    }

    deinit { close() }
}
