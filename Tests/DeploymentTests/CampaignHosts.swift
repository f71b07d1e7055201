import Foundation
import TestSupport

// Hosts of a campaign: places with an sshd each, and a network of their own by which a control place reaches them, beside the one that
// is measured. They share the file system, the machine's clock and its processes' numbers, but not their networks.

/// Hosts that ssh reaches from one place.
final class CampaignHosts {
    /// Where the campaign is run.
    let control: Place
    private let directory: URL
    private var daemons: [Child] = []
    private(set) var places: [(name: String, place: Place, address: String)] = []

    /// What these tests need besides.
    static let obstacle: String? =
        Machine.requiresAll || (Machine.path(of: "sshd") != nil && Machine.path(of: "ssh-keygen") != nil)
        ? nil : "openssh-server is missing"

    init(_ directory: URL) throws {
        self.directory = directory
        control = try Place()
        try control.shell(
            """
            ip link add ctl0 type bridge stp_state 0 forward_delay 0 && ip addr add 10.99.0.254/24 dev ctl0 && \
            ip link set ctl0 up
            """)
        // Where sshd wants its empty directory.
        try FileManager.default.createDirectory(atPath: "/run/sshd", withIntermediateDirectories: true)
        for name in ["host", "user"] {
            try DeploymentTests.shell([
                "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory.appending(path: name).path,
            ])
        }
        try FileManager.default.copyItem(
            at: directory.appending(path: "user.pub"), to: directory.appending(path: "authorized"))
    }

    /// Puts an sshd into a place, and a link to the control place.
    func add(_ name: String, _ place: Place) throws {
        let number = places.count + 1
        let address = "10.99.0.\(number)"
        try control.shell(
            "ip link add port\(number) type veth peer name mgmt0 netns \(place.identifier) && "
                + "ip link set port\(number) master ctl0 up")
        try place.shell("ip addr add \(address)/24 dev mgmt0 && ip link set mgmt0 up")
        let options = [
            "AuthorizedKeysFile=\(directory.path)/authorized", "StrictModes=no", "UsePAM=no", "PidFile=none",
            "PermitRootLogin=prohibit-password", "PasswordAuthentication=no", "MaxStartups=100",
            "ListenAddress=\(address)",
        ]
        // sshd closes what it inherits, by which Foundation knows that a process has ended, and would wait for it: a shell stays between.
        let shell = ["/bin/sh", "-c", "setpriv --pdeathsig KILL -- \"$0\" \"$@\" & wait"]
        let command = shell + ["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-h", "\(directory.path)/host"]
        daemons.append(
            try Child(
                "sshd-\(name)", place.command(command + options.flatMap { ["-o", $0] }),
                log: directory.appending(path: "sshd-\(name).log")))
        places.append((name, place, address))
    }

    /// Waits until each of them can be reached.
    func awaitAll() throws {
        for (index, host) in places.enumerated() {
            try waitUntil(seconds: 20, "sshd of \(host.name): \(daemons[index].log)") {
                daemons[index].log.contains("Server listening")
            }
        }
    }

    /// The part of a plan that has these hosts.
    func plan(program: String, more: String = "") -> String {
        let options = [
            "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=2",
        ]
        let lines = places.map { "  \($0.name): {ssh: root@\($0.address)}" }
        return """
            defaults:
              identity: \(directory.path)/user
              program: \(program)
              options: [\(options.joined(separator: ", "))]
            hosts:
            \(lines.joined(separator: "\n"))
            \(more)

            """
    }

    /// Starts `flexicast campaign` for a plan.
    func start(_ plan: String, output: String) throws -> Child {
        let file = directory.appending(path: "\(output).yaml")
        try Data(plan.utf8).write(to: file)
        return try Child(
            output,
            control.command([Ground.program, "campaign", file.path, "--output", directory.appending(path: output).path]
            ),
            log: directory.appending(path: "\(output).log"))
    }

    /// Takes the network away from a host, without a word to anybody.
    func unplug(_ name: String, from stage: [String]) throws {
        guard let host = places.first(where: { $0.name == name }) else { return }
        for device in ["mgmt0"] + stage { try host.place.shell("ip link set \(device) down") }
    }

    /// What runs on the hosts but their sshd and what the place itself needs: process numbers and command lines.
    func processes(on name: String? = nil) -> [Int32: String] {
        var namespaces: Set<String> = []
        for host in places where name == nil || host.name == name {
            if let link = Self.namespace(host.place.identifier) { namespaces.insert(link) }
        }
        var found: [Int32: String] = [:]
        for entry in (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? [] {
            guard let process = Int32(entry), let link = Self.namespace(process), namespaces.contains(link) else {
                continue
            }
            let line = (try? Data(contentsOf: URL(filePath: "/proc/\(process)/cmdline"))) ?? Data()
            let text = String(decoding: line, as: UTF8.self).replacing("\0", with: " ")
            let isOurs = [
                "campaign agent", "flexicast receive", "flexicast source", "flexicast relay", "nft", "mktemp",
            ]
            .contains { text.contains($0) }
            if isOurs, !text.contains("campaign \(directory.path)") { found[process] = text }
        }
        return found
    }

    private static func namespace(_ process: Int32) -> String? {
        try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(process)/ns/net")
    }

    /// How often a role has told of an item so far, by the folder of a run.
    func items(_ output: String, _ role: String = "source") -> Int {
        let file = directory.appending(path: "\(output)/events/\(role).jsonl")
        let text = (try? String(contentsOf: file, encoding: .utf8)) ?? ""
        return text.components(separatedBy: "\"event\":\"item\"").count - 1
    }
}
