import ArgumentParser
import FoundationEssentials

/// Who forwards multicast between the demo's source and relay.
enum MulticastRouting: Equatable {
    /// One router, whose kernel is told by `flexicast router` what the relay has asked for.
    case kernel
    /// Two routers that speak PIM-SSM to each other (RFC 7761): FRR's pimd.
    case pim

    enum Choice: String, CaseIterable, Sendable, ExpressibleByArgument {
        /// PIM where FRR is installed and may run, else the kernel alone.
        case auto
        case kernel
        case pim

        /// - Throws: A problem when PIM was asked for and cannot be had.
        func resolved(inUserNamespace: Bool) throws -> MulticastRouting {
            let obstacle: String? =
                if inUserNamespace {
                    "FRR's daemons need root"
                } else if !MulticastRouting.daemons.allSatisfy(FileManager.default.isExecutableFile(atPath:)) {
                    "FRR is missing; install with: apt-get install frr"
                } else {
                    nil
                }
            switch self {
            case .kernel: return .kernel
            case .auto: return obstacle == nil ? .pim : .kernel
            case .pim:
                if let obstacle { throw DemoProblem("\(obstacle); or run with --router kernel") }
                return .pim
            }
        }
    }

    private static let daemons = ["zebra", "pimd"].map { "/usr/lib/frr/\($0)" }

    var routerCount: Int { self == .pim ? 2 : 1 }

    var description: String {
        switch self {
        case .kernel: "one router between source and relay: Linux multicast routing, by the relay's IGMPv3 reports"
        case .pim: "two routers between source and relay: FRR's pimd, PIM-SSM between them and IGMPv3 to the relay"
        }
    }

    /// Runs the router that has these interfaces, until it is ended.
    /// - Parameters:
    ///   - hasHosts: there are hosts, not routers, downstream.
    ///   - directory: made for its files.
    func command(
        upstream: String, downstream: String, hasHosts: Bool, program: String, directory: URL
    ) throws -> [String] {
        switch self {
        case .kernel: return [program, "router", "--upstream", upstream, "--downstream", downstream, "--json"]
        case .pim:
            try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
            try write("", to: directory.appending(path: "zebra.conf"))
            let host = "\n ip igmp\n ip igmp query-interval 10"
            try write(
                """
                interface \(upstream)
                 ip pim
                 ip pim hello 1
                !
                interface \(downstream)
                 ip pim
                 ip pim hello 1\(hasHosts ? host : "")
                !

                """, to: directory.appending(path: "pimd.conf"))
            // They run as a user of their own, which makes them outlive who started them; the shell, first process of
            // their own process namespace, takes them with it.
            try run(["/bin/chown", "-R", "frr:frr", directory.path])
            let path = directory.path
            let starts = Self.daemons.map { daemon in
                let name = URL(fileURLWithPath: daemon).lastPathComponent
                return """
                    \(daemon) -f \(path)/\(name).conf -i \(path)/\(name).pid -z \(path)/zserv.api \
                    --vty_socket \(path) -P 0 --log stdout >&2 &
                    """
            }
            // Who does not find zebra at once tries again much later.
            let isThere = "while [ ! -S \(path)/zserv.api ] && kill -0 $!; do sleep 0.05; done"
            return [
                "/usr/bin/unshare", "--pid", "--fork", "--kill-child", "/bin/sh", "-c",
                starts.joined(separator: "\n\(isThere)\n") + "\nwait",
            ]
        }
    }

    private func write(_ text: String, to file: URL) throws {
        try Data(text.utf8).write(to: file)
    }
}
