import Foundation
import Glibc
import Synchronization
import TestShims
import TestSupport
import Wire

/// Whole Ethernet frames at a place: all that passes there can be read, and anything can be sent.
final class RawLink: Sendable {
    private let descriptor: Int32

    private final class Slot: Sendable {
        let value = Mutex<Int32>(-1)
        let done = DispatchSemaphore(value: 0)
    }

    /// Opens the interface as it is in the network namespace of a process.
    init(process: Int32, interface: String) throws {
        let slot = Slot()
        // A namespace is a property of a thread: one enters it, opens the socket and ends.
        Thread.detachNewThread {
            let opened = unsafe ts_open_link(process, interface)
            slot.value.withLock { $0 = opened }
            slot.done.signal()
        }
        slot.done.wait()
        descriptor = slot.value.withLock { $0 }
        guard descriptor >= 0 else {
            throw Failure(
                description: "cannot open \(interface) in the namespace of process \(process): error \(-descriptor)")
        }
    }

    deinit { close(descriptor) }

    /// The next frame, if there is one.
    func read() -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = unsafe recv(descriptor, &buffer, buffer.count, 0)
        return count > 0 ? Array(buffer.prefix(count)) : nil
    }

    /// Whether the frame went out.
    @discardableResult
    func send(_ frame: [UInt8]) -> Bool { unsafe Glibc.send(descriptor, frame, frame.count, 0) == frame.count }
}

/// An Ethernet frame with an IPv4 packet with a UDP datagram, to be changed and sent on.
struct Frame {
    static let ethernet = 14
    static let ipv4 = 20
    static let udp = 8
    static let headers = ethernet + ipv4 + udp

    private var header: [UInt8]
    var payload: [UInt8]

    /// Nil when it is anything else.
    init?(_ bytes: [UInt8]) {
        guard bytes.count > Self.headers, bytes[12] == 8, bytes[13] == 0, bytes[14] == 0x45, bytes[23] == 17 else {
            return nil
        }
        let length = Int(bytes[38]) << 8 | Int(bytes[39])
        guard length > Self.udp, Self.headers - Self.udp + length <= bytes.count else { return nil }
        header = Array(bytes[..<Self.headers])
        payload = Array(bytes[Self.headers..<(Self.headers - Self.udp + length)])
    }

    var source: UInt32 { address(26) }
    var destination: UInt32 { address(30) }
    var destinationPort: UInt16 { UInt16(header[36]) << 8 | UInt16(header[37]) }

    private func address(_ at: Int) -> UInt32 { header[at..<(at + 4)].reduce(0) { $0 << 8 | UInt32($1) } }

    mutating func setSource(_ address: UInt32, port: UInt16) {
        for index in 0..<4 { header[26 + index] = UInt8(truncatingIfNeeded: address >> UInt32(24 - 8 * index)) }
        header[34] = UInt8(port >> 8)
        header[35] = UInt8(truncatingIfNeeded: port)
    }

    /// The frame, from a station of its own: with another's address the bridge would look for that one here.
    func bytes(from station: [UInt8]) -> [UInt8] {
        var out = header
        out.replaceSubrange(6..<12, with: station)
        put(UInt16(Self.ipv4 + Self.udp + payload.count), at: 16, &out)
        put(UInt16(Self.udp + payload.count), at: 38, &out)
        // No UDP checksum (RFC 768), so that the damage reaches the process.
        put(0, at: 40, &out)
        put(0, at: 24, &out)
        var sum: UInt32 = 0
        for index in stride(from: 14, to: 34, by: 2) { sum += UInt32(out[index]) << 8 | UInt32(out[index + 1]) }
        while sum > 0xffff { sum = (sum >> 16) + (sum & 0xffff) }
        put(~UInt16(sum), at: 24, &out)
        return out + payload
    }

    private func put(_ value: UInt16, at index: Int, _ out: inout [UInt8]) {
        out[index] = UInt8(value >> 8)
        out[index + 1] = UInt8(truncatingIfNeeded: value)
    }
}
