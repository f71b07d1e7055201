import Foundation
import TestSupport
import Wire

// A network of namespaces around a bridge that floods, one place for each process. A namespace lives as long as its
// holder, a `cat` that reads from a pipe of this process: whatever happens here, the kernel tidies up.
//
// The network is closed: no place reaches the machine's own network, so addresses may be the same in every run.

/// What the tests here need: to be root, and the tools that make namespaces.
enum Ground {
    static let tools = ["ip", "nft", "nsenter", "unshare", "setpriv"]

    /// Why they cannot run on this machine; nil when they can, or must.
    static let obstacle: String? = {
        guard !Machine.requiresAll else { return nil }
        let missing = tools.filter { Machine.path(of: $0) == nil }
        guard missing.isEmpty else { return "missing: \(missing.joined(separator: ", "))" }
        guard (try? shell(["unshare", "-n", "true"])) != nil else { return "network namespaces need root" }
        return FileManager.default.isExecutableFile(atPath: program) ? nil : "\(program) is not built"
    }()

    static var isSolid: Bool { obstacle == nil }
    static var reason: String { obstacle ?? "" }

    /// The program under test: the one built with these tests, or the one that `FLEXICAST_BINARY` names.
    static let program: String =
        ProcessInfo.processInfo.environment["FLEXICAST_BINARY"]
        ?? URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
        .appending(path: "flexicast").path
}

/// Runs a tool to its end and returns what it printed.
@discardableResult
func shell(_ command: [String], input: String = "") throws -> String {
    let result = try run(Machine.path(of: command[0]) ?? command[0], Array(command.dropFirst()), input: input)
    guard result.status == 0 else {
        throw Failure(description: "\(command.joined(separator: " ")): \(result.output)\(result.errors)")
    }
    return result.output
}

/// A process that keeps a namespace alive.
private final class Holder {
    private let process = Process()
    private let stdin = Pipe()
    let identifier: Int32

    init() throws {
        let stdout = Pipe()
        process.executableURL = URL(fileURLWithPath: Machine.path(of: "unshare") ?? "unshare")
        process.arguments = ["-n", "/bin/sh", "-c", "echo ready; exec cat"]
        process.standardInput = stdin
        process.standardOutput = stdout
        try process.run()
        identifier = process.processIdentifier
        guard !stdout.fileHandleForReading.availableData.isEmpty else {
            throw Failure(description: "no network namespace could be made")
        }
    }

    deinit {
        try? stdin.fileHandleForWriting.close()
        process.waitUntilExit()
    }
}

/// Some places on one link. Number 0 is the source's by convention.
final class Namespaces {
    enum Family: String, CaseIterable, Sendable { case ipv4, ipv6 }

    let family: Family
    let group: SocketAddress
    static let interface = "eth0"
    private let hub: Holder
    private let places: [Holder]

    init(places count: Int, family: Family = .ipv4, group: String? = nil) throws {
        self.family = family
        let address = group ?? (family == .ipv4 ? "239.77.0.1" : "ff3e::4d00:1")
        guard let address = IPAddress(address) else { throw Failure(description: "\(address) is no address") }
        self.group = SocketAddress(address, port: 4477)
        hub = try Holder()
        places = try (0..<count).map { _ in try Holder() }

        var script = """
            link set lo up
            link add br0 type bridge mcast_snooping 0 stp_state 0 forward_delay 0
            link set br0 up

            """
        for (index, place) in places.enumerated() {
            script += """
                link add port\(index) type veth peer name eth0 netns \(place.identifier)
                link set port\(index) master br0 up

                """
        }
        try shell(enter(hub.identifier) + ["ip", "-batch", "-"], input: script)
        for index in places.indices {
            // One packet per segmented send on the cable, so that a loss is the loss of one packet.
            let flags = family == .ipv6 ? "nodad" : ""
            try shell(
                enter(places[index].identifier) + ["ip", "-batch", "-"],
                input: """
                    link set lo up
                    link set eth0 gso_max_segs 1
                    addr add \(self.address(index))/\(family == .ipv4 ? 16 : 64) dev eth0 \(flags)
                    link set eth0 up
                    \(family == .ipv4 ? "route add 224.0.0.0/4 dev eth0" : "")

                    """)
        }
    }

    func address(_ place: Int) -> IPAddress {
        switch family {
        case .ipv4: .v4(0x0a4d_0001 + UInt32(place))
        case .ipv6: .v6(0xfd4d << 112 + 1 + UInt128(place))
        }
    }

    /// The process whose namespace the place is.
    func identifier(_ place: Int) -> Int32 { places[place].identifier }

    private func enter(_ identifier: Int32) -> [String] { ["nsenter", "-t", "\(identifier)", "-n", "--"] }

    /// Runs a tool at a place.
    @discardableResult
    func shell(at place: Int, _ command: [String], input: String = "") throws -> String {
        try shell(enter(places[place].identifier) + command, input: input)
    }

    @discardableResult
    private func shell(_ command: [String], input: String) throws -> String {
        try DeploymentTests.shell(command, input: input)
    }

    /// `command` so that it runs at a place and dies with the thread that starts it.
    func command(_ command: [String], at place: Int) -> [String] {
        enter(places[place].identifier) + ["setpriv", "--pdeathsig", "KILL", "--"] + command
    }

    // MARK: What goes wrong on the way

    /// Installs the filter of a place: of the flow's packets that arrive there, so many per cent are lost and counted.
    func filter(at place: Int, lossPercent: Int = 0) throws {
        let flow = "\(family == .ipv4 ? "ip" : "ip6") daddr \(group.address) udp dport \(group.port)"
        let loss = lossPercent > 0 ? "\(flow) numgen random mod 100 < \(lossPercent) counter name lost drop;" : ""
        try shell(
            at: place, ["nft", "-f", "-"],
            input: """
                table inet deployment {
                  counter lost {}
                  chain cut { }
                  chain loss { \(loss) }
                  chain input { type filter hook prerouting priority raw; jump cut; jump loss; }
                }

                """)
    }

    /// Stops the group at a place that has a filter, or lets it through again.
    func setCut(_ isCut: Bool, at place: Int) throws {
        let match = "\(family == .ipv4 ? "ip" : "ip6") daddr \(group.address)"
        let rule = isCut ? "add rule inet deployment cut \(match) drop" : "flush chain inet deployment cut"
        try shell(at: place, ["nft", "-f", "-"], input: rule + "\n")
    }

    /// How many packets the filter of a place has lost.
    func packetsLost(at place: Int) throws -> Int {
        let text = try shell(at: place, ["nft", "list", "counter", "inet", "deployment", "lost"])
        let words = text.split(whereSeparator: \.isWhitespace)
        return words.firstIndex(of: "packets").flatMap { Int(words[$0 + 1]) } ?? 0
    }
}
