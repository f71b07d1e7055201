import Foundation
import Glibc
import Reactor
import Synchronization
import Testing
import Wire

/// The backends this machine lets us have; the reason for leaving one out is printed once.
let backends: [Reactor.IO] = {
    do throws(ReactorError) {
        try Reactor(io: .ioUring).close()
        return [.epoll, .ioUring]
    } catch {
        print("io_uring tests are left out: \(error)")
        return [.epoll]
    }
}()

func address(_ text: String) -> SocketAddress {
    guard let address = SocketAddress(text) else { preconditionFailure("\(text) is no address") }
    return address
}

func ip(_ text: String) -> IPAddress {
    guard let address = IPAddress(text) else { preconditionFailure("\(text) is no address") }
    return address
}

extension Reactor {
    /// Takes turns until `done`; false when that takes so long that it will not come.
    func turns(until done: () -> Bool) -> Bool {
        let end = Reactor.clock() + .seconds(30)
        while !done() {
            if Reactor.clock() > end { return false }
            turn(timeout: .seconds(1))
        }
        return true
    }
}

/// Keeps what arrives.
final class Collector: DatagramHandler {
    struct Datagram: Equatable {
        var bytes: [UInt8]
        var source: SocketAddress
        var local: SocketAddress
        var ecn: ECN
        var interface: UInt32
    }

    var datagrams: [Datagram] = []
    var batches: [Int] = []
    var writable = 0
    var onWritable: ((UDPSocket) -> Void)?

    func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
        batches.append(batch.count)
        for index in 0..<batch.count {
            let octets = batch[index]
            let bytes = [UInt8](octets.span)
            datagrams.append(
                Datagram(
                    bytes: bytes, source: batch.source(index), local: batch.local(index), ecn: batch.ecn(index),
                    interface: batch.interface(index)))
        }
    }

    func socketBecameWritable(_ socket: UDPSocket) {
        writable += 1
        onWritable?(socket)
    }
}

extension UDPSocket {
    /// Queues `bytes` as one datagram, or several of `segment` octets; false when there was no room.
    @discardableResult
    func send(
        _ bytes: [UInt8], segment: Int? = nil, to: SocketAddress, from: IPAddress? = nil, ecn: ECN = .notECT
    ) -> Bool {
        let room: Void? = withSendBuffer(bytes.count) { buffer in
            for index in bytes.indices { buffer[index] = bytes[index] }
        }
        guard room != nil else { return false }
        enqueue(bytes.count, segment: segment, to: to, from: from, ecn: ecn)
        return true
    }
}

/// A socket of the C library's, to check the reactor against something that is not the reactor.
final class RawSocket {
    let descriptor: Int32
    let address: SocketAddress

    /// Bound to a free port of 127.0.0.1 or ::1; gives up receiving after ten seconds.
    init(ipv4: Bool) throws {
        descriptor = Glibc.socket(ipv4 ? AF_INET : AF_INET6, Int32(SOCK_DGRAM.rawValue), 0)
        var patience = timeval(tv_sec: 10, tv_usec: 0)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        let descriptor = descriptor
        let bound = unsafe Self.withName(SocketAddress(ip(ipv4 ? "127.0.0.1" : "::1"), port: 0)) {
            unsafe Glibc.bind(descriptor, $0, $1)
        }
        try #require(bound == 0)
        var storage = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        _ = unsafe withUnsafeMutableBytes(of: &storage) {
            unsafe getsockname(descriptor, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self), &size)
        }
        address = Self.decode(storage)
    }

    deinit { close(descriptor) }

    func send(_ bytes: [UInt8], to: SocketAddress) {
        let sent = unsafe Self.withName(to) { name, size in
            unsafe bytes.withUnsafeBytes { unsafe sendto(descriptor, $0.baseAddress, $0.count, 0, name, size) }
        }
        #expect(sent == bytes.count)
    }

    /// The next datagram; nil when none comes.
    func receive() -> (bytes: [UInt8], source: SocketAddress)? {
        var storage = sockaddr_storage()
        var bytes = [UInt8](repeating: 0, count: 65_536)
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let count = unsafe withUnsafeMutableBytes(of: &storage) { name in
            unsafe bytes.withUnsafeMutableBytes {
                unsafe recvfrom(
                    descriptor, $0.baseAddress, $0.count, 0,
                    name.baseAddress!.assumingMemoryBound(to: sockaddr.self), &size)
            }
        }
        return count < 0 ? nil : (Array(bytes[..<count]), Self.decode(storage))
    }

    private static func withName<R>(
        _ address: SocketAddress, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) -> R {
        var storage = sockaddr_storage()
        let size: Int
        switch address.address {
        case .v4(let bits):
            var name = sockaddr_in()
            name.sin_family = sa_family_t(AF_INET)
            name.sin_port = address.port.bigEndian
            name.sin_addr.s_addr = bits.bigEndian
            size = MemoryLayout<sockaddr_in>.size
            unsafe withUnsafeMutableBytes(of: &storage) { unsafe $0.storeBytes(of: name, as: sockaddr_in.self) }
        case .v6(let bits):
            var name = sockaddr_in6()
            name.sin6_family = sa_family_t(AF_INET6)
            name.sin6_port = address.port.bigEndian
            size = MemoryLayout<sockaddr_in6>.size
            unsafe withUnsafeMutableBytes(of: &name.sin6_addr) {
                unsafe $0.storeBytes(of: bits.bigEndian, as: UInt128.self)
            }
            unsafe withUnsafeMutableBytes(of: &storage) { unsafe $0.storeBytes(of: name, as: sockaddr_in6.self) }
        }
        return unsafe withUnsafeBytes(of: &storage) {
            unsafe body($0.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(size))
        }
    }

    private static func decode(_ storage: sockaddr_storage) -> SocketAddress {
        unsafe withUnsafeBytes(of: storage) { bytes in
            if Int32(storage.ss_family) == AF_INET {
                let name = unsafe bytes.loadUnaligned(as: sockaddr_in.self)
                return SocketAddress(
                    .v4(UInt32(bigEndian: name.sin_addr.s_addr)), port: UInt16(bigEndian: name.sin_port))
            }
            let name = unsafe bytes.loadUnaligned(as: sockaddr_in6.self)
            let bits = unsafe withUnsafeBytes(of: name.sin6_addr) { unsafe $0.loadUnaligned(as: UInt128.self) }
            return SocketAddress(.v6(UInt128(bigEndian: bits)), port: UInt16(bigEndian: name.sin6_port))
        }
    }
}

// MARK: threads and namespaces of their own

@_silgen_name("unshare") private func systemUnshare(_ flags: Int32) -> Int32

/// What a thread takes for itself; it ends with the thread.
enum Unshared: Int32 {
    case files = 0x400
    /// Needs root.
    case network = 0x4000_0000
}

/// Whether this process may make network namespaces.
let mayMakeNamespaces = onThread(unsharing: .network) { true } ?? false

private final class ThreadResult<R: Sendable>: Sendable {
    private let value = Mutex<R?>(nil)

    func set(_ new: R) { value.withLock { $0 = new } }
    func take() -> R? { value.withLock { $0 } }
}

/// Runs `body` on a new thread and waits for it; nil when the thread may not have what it asks for.
func onThread<R: Sendable>(unsharing what: Unshared? = nil, _ body: @escaping @Sendable () -> R) -> R? {
    let result = ThreadResult<R>()
    let done = DispatchSemaphore(value: 0)
    let thread = Thread {
        if what.map({ systemUnshare($0.rawValue) == 0 }) ?? true { result.set(body()) }
        done.signal()
    }
    thread.stackSize = 4 << 20
    thread.start()
    done.wait()
    return result.take()
}

/// Runs a command line to its end and returns its exit code.
@discardableResult
func shell(_ command: String) -> Int32 {
    let process = spawn(command)
    var status: Int32 = 0
    unsafe waitpid(process, &status, 0)
    return status >> 8 & 255
}

/// Starts a command line, its standard output going to `output`.
func spawn(_ command: String, output: Int32? = nil) -> pid_t {
    var process: pid_t = 0
    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    if let output { unsafe posix_spawn_file_actions_adddup2(&actions, output, 1) }
    let words = ["/bin/sh", "-c", command]
    var arguments = unsafe words.map { unsafe strdup($0) } + [nil]
    unsafe posix_spawn(&process, "/bin/sh", &actions, nil, &arguments, environ)
    for index in unsafe arguments.indices { unsafe free(arguments[index]) }
    unsafe posix_spawn_file_actions_destroy(&actions)
    return process
}
