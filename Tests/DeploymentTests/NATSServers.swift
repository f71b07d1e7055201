import Foundation
import TestSupport
import Wire

/// Servers of a distributed log, each at its place of a network.
final class NATSServers {
    static let tools = ["nats-server"]
    static let port: UInt16 = 4222
    private let network: Namespaces
    private let directory: URL
    private let places: [Int]
    private var servers: [Int: Child] = [:]
    private let options: String

    /// Starts one at each of the places, as a cluster where there are several.
    init(_ network: Namespaces, at places: [Int], in directory: URL, options: String = "") throws {
        (self.network, self.places, self.directory, self.options) = (network, places, directory, options)
        for place in places { try start(at: place) }
    }

    /// As `--log` takes it.
    func log(_ stream: String) -> String {
        "nats://" + places.map { "\(network.address($0)):\(Self.port)" }.joined(separator: ",") + "/" + stream
    }

    func start(at place: Int) throws {
        let name = "nats-\(place)"
        var text = """
            server_name: \(name)
            listen: "\(network.address(place)):\(Self.port)"
            jetstream { store_dir: "\(directory.path)/\(name)", max_mem: 64MB, max_file: 1GB }
            \(options)

            """
        if places.count > 1 {
            let routes = places.map { "\"nats-route://\(network.address($0)):6222\"" }.joined(separator: ", ")
            text += "cluster { name: test, listen: \"\(network.address(place)):6222\", routes: [\(routes)] }\n"
        }
        let file = directory.appending(path: "\(name).conf")
        try text.write(to: file, atomically: true, encoding: .utf8)
        servers[place] = try Child(
            name, network.command(["nats-server", "-c", file.path], at: place),
            log: directory.appending(path: "\(name).log"))
    }

    func kill(at place: Int) throws { try servers.removeValue(forKey: place)?.end(SIGKILL) }
}

/// Appends to a log as any program may: by NATS's own protocol, with nothing of ours (docs/scaling.md, "Messages").
struct PlainAppender {
    let network: Namespaces
    let place: Int
    let server: IPAddress

    /// Runs lines of the protocol, and gives back what the server said to the last request.
    @discardableResult
    func request(_ subject: String, _ body: String, headers: [String: String] = [:]) throws -> String {
        let script = """
            import socket, sys
            body = sys.stdin.buffer.read()
            s = socket.create_connection(("\(server)", \(NATSServers.port)), 5)
            f = s.makefile("rb")
            f.readline()
            head = b"NATS/1.0\\r\\n" + b"".join(a.encode() + b"\\r\\n" for a in sys.argv[2:]) + b"\\r\\n"
            s.sendall(b'CONNECT {"verbose":false,"headers":true,"lang":"test","version":"1"}\\r\\nSUB in 1\\r\\n')
            s.sendall(b"HPUB %s in %d %d\\r\\n" % (sys.argv[1].encode(), len(head), len(head) + len(body)) + head + body + b"\\r\\n")
            while True:
                line = f.readline()
                if not line: sys.exit("closed")
                if line.startswith(b"PING"): s.sendall(b"PONG\\r\\n")
                if line.startswith((b"MSG", b"HMSG")):
                    print(f.read(int(line.split()[-1])).decode())
                    break
            """
        return try network.shell(
            at: place,
            ["/usr/bin/python3", "-c", script, subject] + headers.map { "\($0.key): \($0.value)" }, input: body)
    }
}
