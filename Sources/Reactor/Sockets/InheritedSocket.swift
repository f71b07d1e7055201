import CShims
import Glibc
import Wire

/// A UDP socket that the service manager holds and has handed to this process (sd_listen_fds(3)): it stays open when the process
/// ends, and what arrives meanwhile waits for the next one.
public struct InheritedSocket: Sendable, Equatable {
    /// What the service manager calls it.
    public let name: String
    /// What it is bound to.
    public let address: SocketAddress
    let descriptor: Int32

    /// The first descriptor that is handed over.
    private static let first: Int32 = 3
    /// More than anybody hands over.
    private static let most: Int32 = 1024

    /// Takes all sockets that were handed to this process, once: whoever is asked again has none. What is handed over and is no UDP
    /// socket is an error.
    ///
    /// `LISTEN_PID` says who is meant, `LISTEN_FDS` how many there are, and `LISTEN_FDNAMES` what they are called.
    public static func take() throws(ReactorError) -> [InheritedSocket] {
        let names = variable("LISTEN_FDNAMES")?.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        let count = variable("LISTEN_FDS").flatMap { Int32($0) } ?? 0
        let isMeant = variable("LISTEN_PID").map { $0 == String(getpid()) } ?? false
        // Children are not meant.
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] { unsafe unsetenv(name) }
        guard isMeant, (1...most).contains(count) else { return [] }
        var sockets: [InheritedSocket] = []
        for index in 0..<count {
            let name = names.flatMap { $0.indices.contains(Int(index)) ? $0[Int(index)] : nil } ?? "unknown"
            var address = fcio_address()
            let code = unsafe fcio_adopt_udp(first + index, &address)
            guard code >= 0 else {
                throw ReactorError(
                    "take over", "descriptor \(first + index) (\(name))", code: code,
                    advice: "only UDP sockets are of use: ListenDatagram= in the .socket unit")
            }
            sockets.append(
                InheritedSocket(
                    name: name, address: SocketAddress(IPAddress(address), port: address.port),
                    descriptor: first + index))
        }
        return sockets
    }

    private static func variable(_ name: String) -> String? { unsafe getenv(name).map { unsafe String(cString: $0) } }
}
