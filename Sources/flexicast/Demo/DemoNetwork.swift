// The demo's network: one namespace for a bridge, one for each process, veth pairs between. Nothing has a name in the
// file system: a namespace lives as long as its holder, a `cat` that reads from a pipe of ours. When the demo ends,
// however it ends, the pipe closes, the holders end and the kernel takes the namespaces away. There is nothing to clean
// up and no run can meet another's leftovers.
import Foundation
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
    private let process = Process()
    private let stdin = Pipe()
    let identifier: Int32

    /// Starts `command` with a shell's words after it and waits until the namespace exists.
    init(_ command: [String]) throws {
        let stdout = Pipe()
        let stderr = Pipe()
        process.executableURL = URL(fileURLWithPath: command[0])
        process.arguments = command.dropFirst() + ["/bin/sh", "-c", "echo ready; exec cat"]
        process.standardInput = stdin
        process.standardOutput = stdout
        process.standardError = stderr
        do { try process.run() } catch { throw DemoProblem("cannot run \(command[0]): \(error)") }
        identifier = process.processIdentifier
        let answer = stdout.fileHandleForReading.availableData
        guard !answer.isEmpty else {
            let complaint = (try? stderr.fileHandleForReading.readToEnd()) ?? Data()
            throw DemoProblem(
                String(decoding: complaint, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines))
        }
    }

    func release() {
        try? stdin.fileHandleForWriting.close()
        process.waitUntilExit()
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

    private let tools: Toolbox?
    private let inUserNamespace: Bool
    private var holders: [Holder] = []
    /// Namespace holders of the source (0), the receivers (1...) and, at the end, the relay, in order.
    private var places: [Holder] = []
    /// Where the relay is, when the receivers are in a network without multicast.
    let relayAddress: SocketAddress?

    /// Builds the network for one source and `receivers` receivers. With `relay` the receivers are behind a router that forwards
    /// unicast only, and a relay stands beside the source.
    /// - Throws: A problem when `kind` demands namespaces and they cannot be made, or a tool is missing.
    init(kind: NetworkKind, receivers: Int, relay: Bool = false, log: (String) -> Void) throws {
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
        relayAddress = relay && tools != nil ? SocketAddress(.v4(Self.sourceNetwork + 2), port: 2268) : nil
        if tools != nil {
            group = SocketAddress(.v4(0xef4d_0001), port: 4477)
            sourceAddress = SocketAddress(.v4(Self.sourceNetwork + 1), port: 4433)
            interface = "eth0"
            let count = receivers + (relay ? 2 : 1)
            log("building \(count + 1) network namespaces\(userNamespace ? " in a user namespace" : "")")
            try build(places: count)
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

    private func build(places count: Int) throws {
        guard let tools else { return }
        var unshare = [tools[.unshare], "-n"]
        if inUserNamespace {
            let user = try Holder([tools[.unshare], "-Ur"])
            holders.append(user)
            // Every network namespace belongs to this one user namespace, so that cables can run between them.
            unshare = [tools[.nsenter], "-t", "\(user.identifier)", "-U", "--preserve-credentials"] + unshare
        }
        let hub = try Holder(unshare)
        holders.append(hub)
        places = try (0..<count).map { _ in try Holder(unshare) }

        // Without snooping the bridge floods the group to everyone, as a plain switch does.
        var script = """
            link set lo up
            link add br0 type bridge mcast_snooping 0 stp_state 0 forward_delay 0
            link set br0 up

            """
        if relayAddress != nil {
            // The hub becomes the router between the source's network and the receivers', for unicast only.
            script += """
                link add br1 type bridge stp_state 0 forward_delay 0
                link set br1 up
                addr add \(IPAddress.v4(Self.sourceNetwork + 0xfffe))/16 dev br0
                addr add \(IPAddress.v4(Self.receiverNetwork + 0xfffe))/16 dev br1

                """
        }
        for (index, place) in places.enumerated() {
            script += """
                link add port\(index) type veth peer name eth0 netns \(place.identifier)
                link set port\(index) master \(isBesideSource(index) ? "br0" : "br1") up

                """
        }
        try run(enter(hub) + [tools[.ip], "-batch", "-"], input: script)
        if relayAddress != nil {
            try run(enter(hub) + ["/bin/sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
        }
        for (index, place) in places.enumerated() {
            // One packet per segmented send on the cable, so that a loss is the loss of one packet.
            // The explicit route spares the sender a route allocation per packet.
            try run(
                enter(place) + [tools[.ip], "-batch", "-"],
                input: """
                    link set lo up
                    link set eth0 gso_max_segs 1
                    addr add \(address(index))/16 dev eth0
                    link set eth0 up
                    route add 224.0.0.0/4 dev eth0
                    \(gateway(index).map { "route add default via \($0)" } ?? "")

                    """)
        }
    }

    // The namespaces are closed: nobody else's 10.77 is near.
    private static let sourceNetwork: UInt32 = 0x0a4d_0000
    private static let receiverNetwork: UInt32 = 0x0a4e_0000

    private func isBesideSource(_ place: Int) -> Bool {
        relayAddress == nil || place == 0 || place == places.count - 1
    }

    /// 10.77.0.1 for the source, the next one for the relay if there is one; receivers count on from there, or in 10.78.
    private func address(_ place: Int) -> IPAddress {
        guard relayAddress != nil else { return .v4(Self.sourceNetwork + 1 + UInt32(place)) }
        if place == 0 { return .v4(Self.sourceNetwork + 1) }
        return place == places.count - 1
            ? .v4(Self.sourceNetwork + 2) : .v4(Self.receiverNetwork + UInt32(place))
    }

    private func gateway(_ place: Int) -> IPAddress? {
        guard relayAddress != nil else { return nil }
        return .v4((isBesideSource(place) ? Self.sourceNetwork : Self.receiverNetwork) + 0xfffe)
    }

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
        guard let tools else { return command }
        return enter(places[place]) + [tools[.setpriv], "--pdeathsig", "KILL", "--"] + command
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
        for holder in places + holders.reversed() { holder.release() }
        places = []
        holders = []
    }
}
