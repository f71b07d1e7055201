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
    /// By slot of the server's receivers.
    var peers: [SimulatedPeer] = []

    init(_ server: FlowServer) { self.server = server }

    /// The source's flow, as it is now.
    public var flow: FlowSource { server.flow! }

    func accept(_ connection: consuming Connection, at now: Instant) {
        peers.append(SimulatedPeer(connection, id: server.accept(at: now)))
    }

    /// Events of a receiver's connection, and what its frames asked for.
    func serve(_ index: Int, client: TransportParameters, at now: Instant) {
        let peer = peers[index]
        while let event = peer.connection.nextEvent() {
            if case .handshakeBytes(let level, _) = event {
                ClearTransport.answerAtServer(&peer.connection, level: level, client: client, at: now)
            }
            server.handle(event, of: peer.id, on: &peer.connection, at: now)
        }
        server.serve(peer.id, frames: &peer.frames, on: &peer.connection, at: now)
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
