import Flexicast
import QUIC
import Wire

/// The source's end of one receiver's connection.
final class SimulatedPeer {
    var connection: Connection
    let id: ReceiverID
    var frames = ReceivedFrames()

    init(_ connection: consuming Connection, id: ReceiverID) {
        self.connection = connection
        self.id = id
    }
}

/// A source: the `FlowServer` that production runs, and a real server `Connection` for each receiver. It moves octets and
/// time, without sockets.
public final class SimulatedSource {
    /// The service itself, which the tester may look at.
    public internal(set) var server: FlowServer
    /// Secrets by generation, as the sealing side has them.
    private(set) var secrets: [UInt64: [UInt8]] = [:]
    /// The source's ends of connections, by receiver; nil when there is none.
    var peers: [SimulatedPeer?] = []
    private var receiverOfSlot: [Int] = []

    init(_ server: FlowServer) { self.server = server }

    /// The source's flow, as it is now.
    public var flow: FlowSource { server.flow! }
    /// Whether connections that have ended are forgotten, so that nothing is left of them.
    var forgets = false

    func accept(_ connection: consuming Connection, of receiver: Int, at now: Instant) {
        let id = server.accept(at: now)
        while receiverOfSlot.count <= id.slot { receiverOfSlot.append(0) }
        receiverOfSlot[id.slot] = receiver
        while peers.count <= receiver { peers.append(nil) }
        peers[receiver] = SimulatedPeer(connection, id: id)
    }

    var nextDeadline: Instant { Self.nextDeadline(of: &server) }
    // By reference, as the whole server would be copied for it.
    private static func nextDeadline(of server: inout FlowServer) -> Instant { server.nextDeadline }

    /// The next receiver whose connection has something to send.
    func nextTouched() -> Int? { server.nextTouched().map { receiverOfSlot[$0.slot] } }

    /// Another process in its place: of connections and the flow nothing is left.
    func restart(_ server: FlowServer) {
        self.server = server
        secrets = [:]
        for index in peers.indices { peers[index] = nil }
        receiverOfSlot = []
    }

    /// Events of a receiver's connection, and what its frames asked for.
    func serve(_ index: Int, client: TransportParameters, at now: Instant) {
        guard let peer = peers[index] else { return }
        var isDrained = false
        while let event = peer.connection.nextEvent() {
            switch event {
            case .handshakeBytes(let level, _):
                ClearTransport.answerAtServer(&peer.connection, level: level, client: client, at: now)
            case .drained: isDrained = true
            default: break
            }
            server.handle(event, of: peer.id, on: &peer.connection, at: now)
        }
        server.serve(peer.id, frames: &peer.frames, on: &peer.connection, at: now)
        if forgets, isDrained {
            server.forget(peer.id, at: now)
            peers[index] = nil
        }
    }

    func transmitFlow(at now: Instant) -> ClearDatagram? {
        server.settle(at: now)
        while let change = server.nextKeyChange() {
            switch change {
            case .install(let key): secrets[key.generation] = key.secret
            case .drop(let generation): secrets[generation] = nil
            }
        }
        guard let size = server.flow?.configuration.packetSize else { return nil }
        var bytes = [UInt8](repeating: 0, count: size)
        var plans: [PacketPlan] = []
        let used: Int
        do {
            var span = bytes.mutableSpan
            var writer = ByteWriter(&span)
            guard server.withFlow({ $0.transmit(into: &writer, plans: &plans, at: now) }) == true else { return nil }
            used = writer.offset
        }
        bytes.removeLast(bytes.count - used)
        return ClearDatagram(bytes: bytes, plans: plans)
    }
}
