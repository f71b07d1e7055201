import CShims
import Glibc
import Wire

/// One request over TCP, and what the server says to it.
public final class TCPRequest {
    private var rest: [UInt8]
    private var watch: FileWatch?
    private unowned let reactor: Reactor

    /// Connects to `server` and sends `request`.
    /// - Parameters:
    ///   - request: all octets that are sent.
    ///   - server: address and TCP port.
    ///   - reactor: whose thread both closures run on.
    ///   - received: gets the octets that come, in any pieces.
    ///   - ended: runs once when the server closes, refuses or cannot be reached; not after `close`.
    /// - Throws: `ReactorError` when no connection can be begun.
    public init(
        _ request: [UInt8], to server: SocketAddress, reactor: Reactor, received: @escaping ([UInt8]) -> Void,
        ended: @escaping () -> Void
    ) throws(ReactorError) {
        rest = request
        self.reactor = reactor
        let descriptor = fcio_tcp_connect(fcio_address(server.address, port: server.port))
        guard descriptor >= 0 else { throw ReactorError("connect", "TCP \(server)", code: descriptor) }
        do throws(ReactorError) {
            watch = try reactor.watch(descriptor, closing: true) { watch in
                var bytes: [UInt8] = []
                let outcome = try? watch.read(appendingTo: &bytes)
                switch outcome {
                case .octets: received(bytes)
                case .nothing: break
                case .end, nil:
                    watch.cancel()
                    ended()
                }
            }
        } catch {
            Glibc.close(descriptor)
            throw error
        }
        watch?.onWritable = { [unowned self] in send() }
        send()
    }

    deinit { watch?.cancel() }

    /// Gives the connection up.
    public func close() {
        watch?.cancel()
        watch = nil
    }

    private func send() {
        guard let watch, watch.isActive, !rest.isEmpty else { return }
        let sent = unsafe rest.withUnsafeBufferPointer { octets in
            unsafe octets.baseAddress.map { unsafe fcio_tcp_send(watch.descriptor, $0, octets.count) } ?? 0
        }
        if sent > 0 { rest.removeFirst(sent) }
        // What is wrong with the connection is found when it is read.
        if !rest.isEmpty, sent >= 0 || sent == -Int(EAGAIN) || sent == -Int(ENOTCONN) {
            reactor.backend.awaitWritable(watch.token, descriptor: watch.descriptor)
        }
    }
}
