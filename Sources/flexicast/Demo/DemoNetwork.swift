// The demo's network: one namespace for a bridge, one for each process, veth pairs between. Nothing has a name in the
// file system: a namespace lives as long as its holder, a `cat` that reads from a pipe of ours. When the demo ends,
// however it ends, the pipe closes, the holders end and the kernel takes the namespaces away. There is nothing to clean
// up and no run can meet another's leftovers.
import AMT
import FoundationEssentials
import System
import Wire

/// How the demo's processes reach each other.
enum NetworkKind: String, CaseIterable, Sendable {
    /// Namespaces when they may be made, else the loopback interface.
    case auto
    /// A network namespace per process.
    case namespaces
    /// All on 127.0.0.1: no losses, no cut.
    case loopback
}

/// A process that keeps a namespace alive until the demo ends.
private final class Holder {
    private let process: ChildProcess
    private let stdin: OpenFile
    var identifier: Int32 { process.identifier }

    /// Starts `command` with a shell's words after it and waits until the namespace exists.
    init(_ command: [String]) throws {
        let (input, output, errors) = (try OpenFile.pipe(), try OpenFile.pipe(), try OpenFile.pipe())
        process = try ChildProcess(
            command + ["/bin/sh", "-c", "echo ready; exec cat"], input: .open(input.reading),
            output: .open(output.writing), errors: .open(errors.writing))
        stdin = input.writing
        for end in [input.reading, output.writing, errors.writing] { end.close() }
        guard !output.reading.read().isEmpty else {
            throw DemoProblem(String(decoding: errors.reading.readToEnd(), as: UTF8.self).trimmed)
        }
    }

    func release() {
        stdin.close()
        process.wait()
    }
}

/// One source and some receivers, each in a place of its own.
final class DemoNetwork {
    /// The flow's destination.
    let group: SocketAddress
    /// Where the source listens.
    let sourceAddress: SocketAddress
    /// The interface the flow leaves and arrives through.
    let interface: String
    /// Why there are no namespaces; nil when there are.
    let loopbackReason: String?
    /// Who forwards multicast between source and relay; nil where both are on one link.
    let routing: MulticastRouting?

    private let tools: Toolbox?
    private let inUserNamespace: Bool
    private var holders: [Holder] = []
    /// Namespace holders of the source (0), the receivers (1...) and, at the end, the relay, in order.
    private var places: [Holder] = []
    /// The namespaces of the bridge that all are on, or of the routers from the source to the relay.
    private var hubs: [Holder] = []
    /// Where the relay is, when the receivers are in a network without multicast.
    let relayAddress: SocketAddress?

    /// Builds the network for one source and `receivers` receivers. With `routing` it is figure 1 of the deployment: the
    /// source, multicast routers, a relay, and receivers behind the last router, in a network that has no multicast.
    /// - Throws: A problem when `kind` demands namespaces and they cannot be made, or a tool is missing.
    init(kind: NetworkKind, receivers: Int, routing: MulticastRouting.Choice? = nil, log: (String) -> Void) throws {
        var reason: String? = "as asked"
        var tools: Toolbox?
        var userNamespace = false
        if kind != .loopback {
            let found = try Toolbox()
            do {
                userNamespace = try Self.chooseUserNamespace(found)
                tools = found
                reason = nil
            } catch let problem as DemoProblem {
                guard kind == .auto else {
                    throw DemoProblem("network namespaces cannot be made here: \(problem)")
                }
                reason = problem.description
            }
        }
        self.tools = tools
        inUserNamespace = userNamespace
        loopbackReason = reason
        let isRouted = routing != nil && tools != nil
        self.routing = isRouted ? try routing?.resolved(inUserNamespace: userNamespace) : nil
        relayAddress = isRouted ? SocketAddress(.v4(Self.relayNetwork + 1), port: 2268) : nil
        if tools != nil {
            // Routers know without being told that the groups of 232/8 are joined with their source (RFC 4607).
            group = SocketAddress(.v4(isRouted ? 0xe84d_0001 : 0xef4d_0001), port: 4477)
            sourceAddress = SocketAddress(.v4(Self.sourceNetwork + 1), port: 4433)
            interface = "eth0"
            let count = receivers + (isRouted ? 2 : 1)
            let hubCount = self.routing?.routerCount ?? 1
            log("building \(count + hubCount) network namespaces\(userNamespace ? " in a user namespace" : "")")
            try build(places: count, hubs: hubCount)
        } else {
            // The process number keeps two demos apart.
            let offset = UInt16(truncatingIfNeeded: ProcessInfo.processInfo.processIdentifier % 10_000)
            group = SocketAddress(.v4(0xef4d_0001), port: 40_000 + offset)
            sourceAddress = SocketAddress(.v4(0x7f00_0001), port: 20_000 + offset)
            interface = "lo"
        }
    }

    /// Whether namespaces need a user namespace around them, found out by making one.
    private static func chooseUserNamespace(_ tools: Toolbox) throws -> Bool {
        if (try? run([tools[.unshare], "-n", "/bin/true"])) != nil { return false }
        try run([tools[.unshare], "-Urn", "/bin/true"])
        return true
    }

    private func build(places count: Int, hubs hubCount: Int) throws {
        guard let tools else { return }
        var unshare = [tools[.unshare], "-n"]
        if inUserNamespace {
            let user = try Holder([tools[.unshare], "-Ur"])
            holders.append(user)
            // Every network namespace belongs to this one user namespace, so that cables can run between them.
            unshare = [tools[.nsenter], "-t", "\(user.identifier)", "-U", "--preserve-credentials"] + unshare
        }
        hubs = try (0..<hubCount).map { _ in try Holder(unshare) }
        places = try (0..<count).map { _ in try Holder(unshare) }
        if relayAddress == nil {
            try configure(
                hubs[0],
                bridge("br0") + places.indices.map { cable("port\($0)", to: places[$0], bridge: "br0") }.joined())
        } else {
            try buildRouters()
        }
        for (index, place) in places.enumerated() {
            // One packet per segmented send on the cable, so that a loss is the loss of one packet.
            // The explicit route spares the sender a route allocation per packet.
            try configure(
                place,
                """
                link set eth0 gso_max_segs 1
                addr add \(address(index))/16 dev eth0
                link set eth0 up
                route add 224.0.0.0/4 dev eth0
                \(relayAddress == nil ? "" : "route add default via \(router(of: index))")

                """)
        }
    }

    /// source ── router (── router) ── relay, and a bridge with the receivers at the last router, which forwards no
    /// multicast there.
    private func buildRouters() throws {
        guard let first = hubs.first, let last = hubs.last, let source = places.first, let relay = places.last else {
            return
        }
        try configure(first, cable("source0", to: source) + "addr add \(router(of: 0))/16 dev source0\n")
        if hubs.count > 1 {
            // Routes of their own: a default route is none that pimd looks for a source by.
            try configure(
                first,
                """
                link add core0 type veth peer name core0 netns \(last.identifier)
                addr add \(IPAddress.v4(Self.coreNetwork + 1))/16 dev core0
                link set core0 up
                route add \(IPAddress.v4(Self.receiverNetwork))/16 via \(IPAddress.v4(Self.coreNetwork + 2))
                route add \(IPAddress.v4(Self.relayNetwork))/16 via \(IPAddress.v4(Self.coreNetwork + 2))

                """)
            try configure(
                last,
                """
                addr add \(IPAddress.v4(Self.coreNetwork + 2))/16 dev core0
                link set core0 up
                route add \(IPAddress.v4(Self.sourceNetwork))/16 via \(IPAddress.v4(Self.coreNetwork + 1))

                """)
        }
        let receivers = places.indices.dropFirst().dropLast()
        try configure(
            last,
            cable("relay0", to: relay) + bridge("br0")
                + receivers.map { cable("port\($0)", to: places[$0], bridge: "br0") }.joined()
                    + """
                    addr add \(router(of: places.count - 1))/16 dev relay0
                    addr add \(router(of: 1))/16 dev br0

                    """)
        for hub in hubs {
            try run(enter(hub) + ["/bin/sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
        }
    }

    // Without snooping a bridge floods the group to everyone, as a plain switch does.
    private func bridge(_ name: String) -> String {
        """
        link add \(name) type bridge mcast_snooping 0 stp_state 0 forward_delay 0
        link set \(name) up

        """
    }

    private func cable(_ name: String, to place: Holder, bridge: String? = nil) -> String {
        """
        link add \(name) type veth peer name eth0 netns \(place.identifier)
        link set \(name) \(bridge.map { "master \($0) " } ?? "")up

        """
    }

    /// Has `ip` do the lines of `script` in a namespace.
    private func configure(_ holder: Holder, _ script: String) throws {
        guard let tools else { return }
        try run(enter(holder) + [tools[.ip], "-batch", "-"], input: "link set lo up\n" + script)
    }

    // The namespaces are closed: nobody else's 10.77 is near.
    private static let coreNetwork: UInt32 = 0x0a4c_0000
    private static let sourceNetwork: UInt32 = 0x0a4d_0000
    private static let receiverNetwork: UInt32 = 0x0a4e_0000
    private static let relayNetwork: UInt32 = 0x0a4f_0000

    private func network(of place: Int) -> UInt32 {
        guard relayAddress != nil, place > 0 else { return Self.sourceNetwork }
        return place == places.count - 1 ? Self.relayNetwork : Self.receiverNetwork
    }

    /// 10.77.0.1 for the source; receivers count on from there, or in 10.78 when there is a relay, 10.79.0.1.
    private func address(_ place: Int) -> IPAddress {
        if place == 0 { return sourceAddress.address }
        if let relayAddress, place == places.count - 1 { return relayAddress.address }
        return .v4(network(of: place) + UInt32(relayAddress == nil ? place + 1 : place))
    }

    private func router(of place: Int) -> IPAddress { .v4(network(of: place) + 0xfffe) }

    /// What makes router `index` forward multicast, a command that runs until it is told to stop.
    /// - Parameter directory: where it may keep files.
    func routerCommand(_ index: Int, program: String, directory: URL) throws -> [String] {
        guard let routing else { return [] }
        let isFirst = index == 0
        let isLast = index == hubs.count - 1
        let command = try routing.command(
            upstream: isFirst ? "source0" : "core0", downstream: isLast ? "relay0" : "core0", hasHosts: isLast,
            program: program, directory: directory)
        return dying(enter(hubs[index]), command)
    }

    /// Packets of the flow that the kernel of the last router has sent on to the relay.
    func packetsRouted() throws -> Int {
        guard routing != nil, let last = hubs.last else { return 0 }
        // Group Origin Iif Pkts Bytes Wrong Oifs, the addresses in the machine's octet order.
        let text = try run(enter(last) + ["/bin/cat", "/proc/self/net/ip_mr_cache"])
        return text.split(separator: "\n").dropFirst().reduce(0) { sum, line in
            let words = line.split(whereSeparator: \.isWhitespace)
            return sum + (words.count > 3 ? Int(words[3]) ?? 0 : 0)
        }
    }

    /// UDP payload octets of the largest packet of the flow that gets everywhere: each cable takes 1500.
    var packetSize: Int { 1500 - 28 - (relayAddress == nil ? 0 : tunnelOverhead(outerIPv4: true)) }

    /// What a filter knows the flow by when it arrives at a receiver: its group, or the relay that sends it.
    private var flowMatch: String {
        relayAddress.map { "ip saddr \($0.address) udp sport \($0.port)" }
            ?? "ip daddr \(group.address) udp dport \(group.port)"
    }

    private func enter(_ holder: Holder) -> [String] {
        guard let tools else { return [] }
        let user = inUserNamespace ? ["-U", "--preserve-credentials"] : []
        return [tools[.nsenter], "-t", "\(holder.identifier)", "-n"] + user + ["--"]
    }

    /// `command` so that it runs in the place of the source (0) or a receiver (1...), and dies with the demo.
    func command(_ command: [String], at place: Int) -> [String] {
        guard tools != nil else { return command }
        return dying(enter(places[place]), command)
    }

    private func dying(_ entrance: [String], _ command: [String]) -> [String] {
        guard let tools else { return command }
        return entrance + [tools[.setpriv], "--pdeathsig", "KILL", "--"] + command
    }

    /// Installs the filter of a place: loses `lossPercent` of the flow's packets that arrive there, counted.
    func filter(at place: Int, lossPercent: Double) throws {
        guard let tools else { return }
        let perTenThousand = Int((lossPercent * 100).rounded())
        let loss = "\(flowMatch) numgen random mod 10000 < \(perTenThousand) counter name lost drop;"
        try run(
            enter(places[place]) + [tools[.nft], "-f", "-"],
            input: """
                table ip demo {
                  counter lost {}
                  chain cut { }
                  chain loss { \(perTenThousand > 0 ? loss : "") }
                  chain input { type filter hook prerouting priority raw; jump cut; jump loss; }
                }

                """)
    }

    /// Stops everything of the flow's group at a place, or lets it through again.
    func setCut(_ isCut: Bool, at place: Int) throws {
        guard let tools else { return }
        let rule = isCut ? "add rule ip demo cut \(flowMatch) drop" : "flush chain ip demo cut"
        try run(enter(places[place]) + [tools[.nft], "-f", "-"], input: rule + "\n")
    }

    /// How many of the flow's packets the filter of a place has lost.
    func packetsLost(at place: Int) throws -> Int {
        guard let tools else { return 0 }
        let text = try run(enter(places[place]) + [tools[.nft], "list", "counter", "ip", "demo", "lost"])
        let words = text.split(whereSeparator: \.isWhitespace)
        return words.firstIndex(of: "packets").flatMap { Int(words[$0 + 1]) } ?? 0
    }

    /// Gives the namespaces back.
    func tearDown() {
        for holder in places + hubs + holders.reversed() { holder.release() }
        places = []
        hubs = []
        holders = []
    }
}
