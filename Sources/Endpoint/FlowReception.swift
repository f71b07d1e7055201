import Cryptography
import Flexicast
import QUIC
import Reactor
import Wire

/// The receiving end of one multicast flow: a socket in its group, and the keys that open its packets.
final class FlowReception: DatagramHandler {
    let flowID: FlowID
    let socket: UDPSocket
    let group: SocketAddress
    let source: IPAddress?
    /// The newest key first: header protection differs too, so a key is tried, not read off the packet.
    private(set) var keys: [(key: FlowKey, opening: OpeningKey)] = []
    /// Octets of UDP payload in opened packets.
    private(set) var octetsOpened: UInt64 = 0
    /// Datagrams that are not of the flow at all.
    private(set) var strangers: UInt64 = 0

    /// Takes an opened packet: generation, packet number and frames.
    var onPacket: (_ generation: UInt64, _ packetNumber: UInt64, _ payload: Span<UInt8>, _ ecn: ECN) -> Void = { _, _, _, _ in }
    var onHeard: () -> Void = {}
    var onRejected: () -> Void = {}
    /// The batch is over.
    var onBatchEnd: () -> Void = {}
    /// The largest packet number taken, for decoding the next.
    var largest: () -> UInt64? = { nil }

    init(
        _ flowID: FlowID, source: IPAddress?, group: SocketAddress, interface: String?, reactor: Reactor
    ) throws(ReactorError) {
        self.flowID = flowID
        self.group = group
        self.source = source
        var options = UDPOptions()
        // Several receivers on one machine listen to the same group and port.
        options.reuseAddress = true
        options.multicastInterface = interface
        socket = try reactor.udpSocket(bind: group, options: options)
        do throws(ReactorError) {
            try socket.join(group: group.address, source: source, interface: interface)
        } catch {
            socket.close()
            throw error
        }
        socket.handler = self
    }

    func install(_ key: FlowKey) {
        drop(key.generation)
        keys.insert((key, OpeningKey(suite: key.suite, secret: key.secret)), at: 0)
    }

    func drop(_ generation: UInt64) { keys.removeAll { $0.key.generation == generation } }

    func close() { socket.close() }

    func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
        for index in 0..<batch.count {
            let ecn = batch.ecn(index)
            var bytes = batch[index]
            receive(&bytes, ecn: ecn)
        }
        onBatchEnd()
    }

    private func receive(_ bytes: inout MutableSpan<UInt8>, ecn: ECN) {
        guard let header = PacketHeader.parse(bytes.span, at: 0, shortIDLength: flowID.count),
            header.kind == .oneRTT, header.destination == flowID
        else {
            strangers += 1
            return
        }
        onHeard()
        guard !keys.isEmpty else { return }
        for (key, opening) in keys {
            guard
                let packet = opening.open(
                    &bytes, start: 0, packetNumberOffset: header.packetNumberOffset, end: bytes.count,
                    largest: largest() ?? key.firstPacketNumber, packetNumberLength: 4)
            else { continue }
            octetsOpened += UInt64(bytes.count)
            onPacket(key.generation, packet.packetNumber, bytes.span.extracting(packet.payload), ecn)
            return
        }
        onRejected()
    }
}
