import CShims
import Glibc
import Wire

/// Every multicast packet that an interface carries, as whole IP packets, whatever its port: what a relay forwards. The
/// interface has to be told of the groups by joins elsewhere. Needs CAP_NET_RAW.
///
/// Watch `descriptor` with `Reactor.watch` and call `receive` when it is readable.
@safe public final class PacketCapture {
    /// The socket, for `Reactor.watch`: it is readable when packets have come.
    public let descriptor: Int32
    /// Packets that the kernel dropped because they were not fetched in time.
    public private(set) var kernelDrops: UInt64 = 0
    /// Messages that were cut short, no IP, or coalesced in a way that cannot be undone.
    public private(set) var unusable: UInt64 = 0
    /// Packets of the last `receive`.
    public private(set) var count = 0

    private let capture: OpaquePointer
    private let prefix: [UInt8]

    /// - Parameters:
    ///   - interface: Its name; nil listens on all, and then not to what this host itself sends.
    ///   - prefix: At most 2 octets that are written before each packet, so that both can be sent on as they lie.
    ///   - outgoing: Whether to listen to what this host itself sends on the interface as well.
    ///   - receiveBuffer: Octets that may wait to be fetched, packet overhead counted in.
    /// - Throws: `ReactorError` when there is no such interface, or no privilege.
    public init(
        interface: String?, prefix: [UInt8] = [], outgoing: Bool = true, receiveBuffer: Int = 16 << 20
    ) throws(ReactorError) {
        precondition(prefix.count <= Int(fcio_packet_headroom))
        self.prefix = prefix
        var index: UInt32 = 0
        var isLoopback = true
        if let interface {
            index = try NetworkInterface.index(of: interface)
            // What is sent on a loopback interface arrives there as well.
            isLoopback = try NetworkInterface.all().first { $0.name == interface }?.isLoopback ?? false
        }
        let fd = fcio_packet_socket(index, outgoing && !isLoopback, UInt32(receiveBuffer))
        guard fd >= 0 else {
            throw ReactorError(
                "packet socket", interface ?? "all interfaces", code: fd,
                advice: fd == -EPERM ? "run as root or with CAP_NET_RAW" : nil)
        }
        guard let capture = unsafe fcio_capture_create() else {
            Glibc.close(fd)
            throw ReactorError("packet socket", "buffers", code: ENOMEM)
        }
        unsafe self.capture = unsafe capture
        descriptor = fd
    }

    deinit {
        unsafe fcio_capture_destroy(capture)
        Glibc.close(descriptor)
    }

    /// Takes what is there, in place of what was: whether more may wait.
    public func receive() -> Bool {
        let received = unsafe fcio_capture_receive(capture, descriptor)
        count = received < 0 ? 0 : unsafe Int(fcio_capture_count(capture))
        for index in 0..<count where !prefix.isEmpty {
            let packet = unsafe fcio_capture_packet(capture, UInt32(index))
            for place in prefix.indices { unsafe packet.octets[place - prefix.count] = prefix[place] }
        }
        unusable += unsafe UInt64(received < 0 ? 0 : fcio_capture_unusable(capture))
        return received == fcio_batch_limit
    }

    /// The packets of the last `receive`, until the next one.
    public var batch: CapturedBatch { unsafe CapturedBatch(self, capture, prefix: prefix.count) }

    /// Asks the kernel for its drops.
    public func updateDrops() {
        var seen: UInt32 = 0
        var dropped: UInt32 = 0
        if unsafe fcio_packet_statistics(descriptor, &seen, &dropped) == 0 { kernelDrops += UInt64(dropped) }
    }
}

/// Packets that were captured together. A value: to look at a packet costs no check that the class is not being changed.
@safe public struct CapturedBatch {
    /// How many packets there are.
    public let count: Int
    private let prefix: Int
    private let capture: OpaquePointer
    /// Keeps the octets.
    private let owner: PacketCapture

    fileprivate init(_ owner: PacketCapture, _ capture: OpaquePointer, prefix: Int) {
        self.owner = owner
        unsafe self.capture = unsafe capture
        self.prefix = prefix
        count = owner.count
    }

    /// Packet `index`, its IP header first, with the octets of the prefix before it if `prefixed` says so.
    public func withPacket<R: ~Copyable, E: Error>(
        _ index: Int, prefixed: Bool = false, _ body: (Span<UInt8>) throws(E) -> R
    ) throws(E) -> R {
        let packet = unsafe packet(index)
        let before = prefixed ? prefix : 0
        let span = unsafe Span<UInt8>(_unsafeStart: packet.octets - before, count: Int(packet.count) + before)
        return try body(span)
    }

    /// Packet `index`, its IP header first, to be changed in place.
    public func withMutablePacket<E: Error>(
        _ index: Int, _ body: (inout MutableSpan<UInt8>) throws(E) -> Void
    ) throws(E) {
        let packet = unsafe packet(index)
        var span = unsafe MutableSpan<UInt8>(_unsafeStart: packet.octets, count: Int(packet.count))
        try body(&span)
    }

    /// Copies the prefix of packet `index` and as much of the packet as makes `count` octets into `room` at `offset`.
    public func copy(_ index: Int, _ count: Int, into room: inout MutableSpan<UInt8>, at offset: Int) {
        let packet = unsafe packet(index)
        let present = unsafe Int(packet.count) + prefix
        precondition(count >= prefix && count <= present && offset >= 0 && count <= room.count - offset)
        unsafe room.withUnsafeMutableBufferPointer { target in
            guard let base = target.baseAddress else { return }
            unsafe (base + offset).update(from: packet.octets - prefix, count: count)
        }
    }

    /// Not 0: packet `index` is the segmented send of a sender on this machine, with so many octets of UDP payload in each
    /// datagram, and without final lengths and checksums.
    public func segment(_ index: Int) -> Int { unsafe Int(packet(index).segment) }

    private func packet(_ index: Int) -> fcio_packet {
        precondition(index >= 0 && index < count, "packet \(index) of \(count)")
        return unsafe fcio_capture_packet(capture, UInt32(index))
    }
}
