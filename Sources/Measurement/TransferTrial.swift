import Cryptography
import QUIC
import Reactor
import Transport
import Wire

/// A plain QUIC server that answers every HTTP/3 request for `/n` with n octets: what one connection costs, for clients of
/// any make.
package final class TransferTrial {
    private let reactor: Reactor
    private let socket: UDPSocket
    private let listener: Listener<NoExtension>
    /// Of the last request, so that making it is not what is measured.
    private var body: [UInt8] = []
    /// More seldom than elsewhere: what this end costs is read from outside as well.
    private let meter = TurnMeter(every: 251)
    /// The longest answer.
    private static let limit = 1 << 30

    package var backendDescription: String { reactor.backendDescription }
    package var localAddress: SocketAddress { socket.localAddress }

    /// - Parameter maxDatagramSize: octets of UDP payload that path MTU discovery tries at the most.
    package init(
        listen: SocketAddress, certificate: CertificateFiles?,
        maxDatagramSize: Int = ConnectionConfiguration.datagramSizeLimit, io: IOBackendChoice
    ) throws {
        var configuration = ConnectionConfiguration()
        configuration.maxDatagramSize = maxDatagramSize
        reactor = try Reactor(io: .init(io))
        socket = try reactor.serverSocket(bind: listen)
        let tls =
            if let certificate {
                try TLSContext.server(
                    certificateFile: certificate.certificate, keyFile: certificate.key, alpn: ["h3"])
            } else {
                try TLSContext.server(selfSignedFor: ["localhost", "\(listen.address)"], alpn: ["h3"])
            }
        listener = Listener(socket: socket, tls: tls, configuration: configuration, reactor: reactor) {
            NoExtension()
        }
        listener.onAccept = { [unowned self] peer in serve(peer) }
    }

    deinit { reactor.close() }

    /// Serves until `deadline`.
    package func run(until deadline: Instant) {
        while case let left = deadline - Reactor.clock(), left > .zero {
            meter.measure { reactor.turn(timeout: min(left, .milliseconds(100))) }
        }
    }

    /// Connections that were let in so far.
    package var connections: Int { Int(listener.counters.accepted) }

    /// Totals so far: subtract two of them.
    package var counts: EndCounts {
        var counts = EndCounts(sending: reactor.counters, cpu: Meters.threadTime)
        meter.fill(&counts)
        counts.allocations = Meters.allocations
        counts.copied = Meters.copied
        return counts
    }

    private func content(_ count: Int) -> [UInt8] {
        let count = min(max(0, count), Self.limit)
        if body.count != count { body = [UInt8](repeating: 0x61, count: count) }
        return body
    }

    private func serve(_ peer: Peer<NoExtension>) {
        var http = HTTP3Responder { [unowned self] in content($0) }
        peer.onEvent = { [unowned peer] event in
            switch event {
            case .connected: http.begin(&peer.connection.machine)
            case .streamReadable(let id):
                while let chunk = peer.connection.machine.read(id) {
                    http.received(chunk, on: id, &peer.connection.machine)
                    if chunk.isFinished { break }
                }
            default: break
            }
        }
    }
}
