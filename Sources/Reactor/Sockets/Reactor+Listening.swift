import CShims
import Glibc
import Wire

/// Where a TCP socket that listens comes from.
public enum ListeningPlace: Sendable, Equatable {
    /// It is made here; port 0 takes a free one.
    case address(SocketAddress)
    /// It is the process's standard input, as inetd and `StandardInput=socket` of systemd hand it over: whoever starts the
    /// process may have bound it, even in another network namespace.
    case standardInput
}

extension Reactor {
    /// A TCP socket that listens. It is its owner's to close.
    /// - Throws: `ReactorError` when it cannot be had.
    public static func listenTCP(
        _ place: ListeningPlace
    ) throws(ReactorError) -> (descriptor: Int32, localAddress: SocketAddress) {
        let descriptor: Int32
        switch place {
        case .address(let address):
            descriptor = fcio_tcp_listen(fcio_address(address.address, port: address.port))
            guard descriptor >= 0 else { throw ReactorError("listen", "TCP \(address)", code: descriptor) }
        case .standardInput:
            descriptor = fcio_tcp_adopt(STDIN_FILENO)
            guard descriptor >= 0 else {
                throw ReactorError(
                    "listen", "standard input", code: descriptor,
                    advice: "it has to be a TCP socket that listens, as with StandardInput=socket in a unit")
            }
        }
        var bound = fcio_address()
        _ = unsafe fcio_local_address(descriptor, &bound)
        return (descriptor, SocketAddress(bound))
    }
}
