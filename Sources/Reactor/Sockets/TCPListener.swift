import CShims
import Glibc
import Wire

/// A TCP port. Each connection is for its handler to keep; one that nobody keeps is closed.
public final class TCPListener {
    /// Connections taken in one turn.
    private static let turnLimit = 16

    /// Where it listens; its port is a real one also when port 0 was asked for.
    public let localAddress: SocketAddress
    private var watch: FileWatch?

    /// - Throws: `ReactorError` when the address cannot be had.
    public init(
        bind address: SocketAddress, reactor: Reactor, accepted: @escaping (TCPConnection) -> Void
    ) throws(ReactorError) {
        let descriptor = fcio_tcp_listen(fcio_address(address.address, port: address.port))
        guard descriptor >= 0 else { throw ReactorError("listen", "TCP \(address)", code: descriptor) }
        var bound = fcio_address()
        _ = unsafe fcio_local_address(descriptor, &bound)
        localAddress = SocketAddress(bound)
        do throws(ReactorError) {
            watch = try reactor.watch(descriptor, closing: true) { [unowned reactor] watch in
                for _ in 0..<Self.turnLimit {
                    let peer = fcio_tcp_accept(watch.descriptor)
                    guard peer >= 0 else { return }
                    if let connection = try? TCPConnection(peer, reactor: reactor) { accepted(connection) }
                }
            }
        } catch {
            Glibc.close(descriptor)
            throw error
        }
    }

    deinit { watch?.cancel() }
}

/// A TCP connection that was accepted. Gone with the value.
public final class TCPConnection {
    /// Gets the octets that come, in any pieces; nil once, when no more will.
    public var received: ([UInt8]?) -> Void = { _ in }

    private var watch: FileWatch?
    private var rest: ArraySlice<UInt8> = []
    private var closesWhenSent = false
    private unowned let reactor: Reactor

    fileprivate init(_ descriptor: Int32, reactor: Reactor) throws(ReactorError) {
        self.reactor = reactor
        do throws(ReactorError) {
            watch = try reactor.watch(descriptor, closing: true) { [unowned self] _ in readable() }
        } catch {
            Glibc.close(descriptor)
            throw error
        }
        watch?.onWritable = { [unowned self] in push() }
    }

    deinit { watch?.cancel() }

    /// Sends `octets` and, when all are with the kernel, closes; `received` is told.
    public func sendLast(_ octets: [UInt8]) {
        rest = octets[...]
        closesWhenSent = true
        push()
    }

    /// Ends the connection at once.
    public func close() {
        watch?.cancel()
        watch = nil
    }

    private func readable() {
        guard let watch else { return }
        var bytes: [UInt8] = []
        switch try? watch.read(appendingTo: &bytes, limit: 4096) {
        case .octets?: if !closesWhenSent { received(bytes) }
        case .nothing?: break
        case .end?, nil: finish()
        }
    }

    private func finish() {
        guard watch != nil else { return }
        close()
        received(nil)
    }

    private func push() {
        guard let watch, closesWhenSent else { return }
        while !rest.isEmpty {
            let sent = unsafe rest.withUnsafeBufferPointer { octets in
                unsafe octets.baseAddress.map { unsafe fcio_tcp_send(watch.descriptor, $0, octets.count) } ?? 0
            }
            if sent == -Int(EAGAIN) {
                reactor.backend.awaitWritable(watch.token, descriptor: watch.descriptor)
                return
            }
            guard sent > 0 else { break }
            rest = rest.dropFirst(sent)
        }
        finish()
    }
}
