import FoundationEssentials

/// What starts an agent on a host, and how its program gets there.
struct HostCommand {
    /// Directories that ssh and shells are looked for in.
    private static let places = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin"]

    let words: [String]
    /// Whether the host first says what program it has, and waits to be told what to do.
    let asks: Bool

    /// - Parameter program: this program, for the host that is this machine.
    init(_ host: Plan.Host, program: String) {
        asks = host.image == nil && host.destination != nil
        let script: String
        if let image = host.image {
            // Its own network would have no multicast, and rates of its own.
            script = """
                for engine in podman docker; do command -v "$engine" >/dev/null && break; done
                exec "$engine" run --rm -i --network host --entrypoint flexicast \(Self.quoted(image)) campaign agent
                """
        } else {
            script = """
                directory=$(mktemp -d "${TMPDIR:-/tmp}/\(Agent.directoryPrefix)XXXXXX") || exit 1
                trap 'rm -rf "$directory"' EXIT
                trap 'exit 1' HUP INT TERM PIPE
                program=$(command -v \(Self.quoted(host.program)))
                echo "program $([ -z "$program" ] || "$program" --version 2>/dev/null | head -n 2 | tr -s ' \\n' ' ')"
                read -r answer || exit 1
                if [ "$answer" != use ]; then
                    program=$directory/flexicast
                    head -c "$answer" >"$program" && chmod 700 "$program" || exit 1
                fi
                "$program" --version >/dev/null || exit 1
                exec "$program" campaign agent --directory "$directory"
                """
        }
        guard let destination = host.destination else {
            words = host.image == nil ? [program, "campaign", "agent"] : ["/bin/sh", "-c", script]
            return
        }
        var ssh = [Self.path(of: "ssh")]
        // Of what is said twice ssh takes the first.
        for option in host.options { ssh += ["-o", option] }
        for option in ["BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3"] {
            ssh += ["-o", option]
        }
        if let port = host.port { ssh += ["-p", "\(port)"] }
        if let identity = host.identity { ssh += ["-i", identity, "-o", "IdentitiesOnly=yes"] }
        // Whatever shell the user has there, this is a line for the one that everybody knows.
        words = ssh + ["-T", "--", destination, "exec /bin/sh -c \(Self.quoted(script))"]
    }

    static func path(of tool: String) -> String {
        let directories = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map(String.init)
        return (directories + places).lazy.map { "\($0)/\(tool)" }
            .first { FileManager.default.isExecutableFile(atPath: $0) } ?? "/usr/bin/\(tool)"
    }

    /// `text` as a word of a shell.
    static func quoted(_ text: String) -> String { "'" + text.replacing("'", with: "'\\''") + "'" }
}
