import CShims
import Glibc
import Wire

extension Reactor {
    /// A TCP socket that listens; port 0 takes a free one. It is its owner's to close.
    /// - Throws: `ReactorError` when the address cannot be had.
    public static func listenTCP(
        _ address: SocketAddress
    ) throws(ReactorError) -> (descriptor: Int32, localAddress: SocketAddress) {
        let descriptor = fcio_tcp_listen(fcio_address(address.address, port: address.port))
        guard descriptor >= 0 else { throw ReactorError("listen", "TCP \(address)", code: descriptor) }
        var bound = fcio_address()
        _ = unsafe fcio_local_address(descriptor, &bound)
        return (descriptor, SocketAddress(bound))
    }
}
