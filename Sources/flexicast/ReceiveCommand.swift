import ArgumentParser
import Cryptography
import Feeds
import Objects
import Transport
import Reactor
import Wire

struct ReceiveCommand: ParsableCommand, ReadsFiles, Logs {
    static let configuration = CommandConfiguration(
        commandName: "receive",
        abstract: "Take items from a source, on the flow when it is heard, else on the connection.",
        discussion: """
            Every receiver of a flow holds the key its packets are sealed with: one that can also send from the source's \
            address can inject packets that the others accept.
            """)

    @Argument(
        help: ArgumentHelp(
            "Source to connect to, HOST:PORT; several of one distributed log with commas between them.",
            valueName: "server"), transform: { try ServerNames($0) })
    var server: ServerNames

    @Option(
        help: ArgumentHelp(
            "Accept only certificates in this PEM file, or the one of this fingerprint, which the source prints.",
            valueName: "file|sha256/…"),
        transform: parseTrust)
    var trust: TrustChoice?

    @Flag(help: "Accept any certificate: whoever answers is believed.")
    var insecure = false

    @Option(
        help: ArgumentHelp("Show the token in this file to a source that asks for one.", valueName: "file"))
    var tokenFile: String?

    @Option(
        help: ArgumentHelp(
            "auto (default): flow if heard; multicast, amt: exit status 2 if it never is; unicast: never ask for it.",
            valueName: "auto|multicast|amt|unicast"),
        transform: parsePath)
    var path: PathChoice = .auto

    @Option(
        help: ArgumentHelp("Write each item to a file here, or to standard output with -.", valueName: "dir|-"),
        transform: parseOutput)
    var output: OutputChoice = .none

    @Option(
        help: ArgumentHelp(
            "Take items only of the feed that the source calls so; may be given again.", valueName: "name"))
    var only: [String] = []

    @Option(
        help: ArgumentHelp("Stop after so many items.", valueName: "n"),
        transform: parseInteger(in: 1...1_000_000_000, "a number of items"))
    var count: Int?

    @Option(
        help: ArgumentHelp("Stop after so long; exit status 2 if --count was not reached.", valueName: "duration"),
        transform: parseDuration)
    var timeout: Duration?

    @Option(help: ArgumentHelp("Interface the flow is joined on.", valueName: "if"))
    var interface: String?

    @Option(
        help: ArgumentHelp(
            "Relay that carries the flow where multicast does not (AMT); auto searches for one.",
            valueName: "auto|addr[:port]"),
        transform: { try RelayArgument($0) })
    var relay: RelayArgument?

    @OptionGroup var search: RelaySearchArguments

    @Option(
        help: ArgumentHelp(
            "Tell rate, loss and latency each time that so long has passed (default: never).", valueName: "duration"),
        transform: parseDuration)
    var interval: Duration?

    @Option(
        help: ArgumentHelp("Serve /metrics for Prometheus and /health here, over HTTP.", valueName: "addr:port"),
        transform: parsePagesAddress)
    var metrics: ListeningPlace?

    @Flag(
        help: """
            Tell the source every 10 s by which path items come, how many packets of the flow were lost, and how long items \
            took; it publishes that as unverified.
            """)
    var report = false

    @Option(help: ArgumentHelp("Write one qlog file per connection into this directory.", valueName: "dir"))
    var qlog: String?

    @Option(help: ArgumentHelp("Append TLS secrets to this file.", valueName: "file"))
    var keylog: String?

    @OptionGroup var cipherLibrary: AEADOptions
    @OptionGroup var configuration: ConfigurationOptions
    @OptionGroup var common: CommonOptions

    func run() throws {
        let log = common.makeLogger("receive")
        let again = try ConfiguredCommand.reloading(Self.self, log: log)
        throw ExitCode(try runReceiver(options, reload: { _ = again() }, log: log))
    }

    func validate() throws {
        var problems: [String] = []
        if trust != nil, insecure { problems.append("--trust and --insecure exclude each other; give one of them") }
        if insecure, tokenFile != nil {
            problems.append("--insecure would show the token to anybody; give --trust with --token-file")
        }
        if path == .amt, relay == nil { problems.append("--path amt needs --relay") }
        if relay != nil, path == .multicast || path == .unicast {
            problems.append("--relay goes with --path amt or auto")
        }
        if interval != nil, output == .standardOutput {
            problems.append("--interval and --output - both write to standard output; give --output a directory")
        }
        if common.json, output == .standardOutput {
            problems.append("--json and --output - both write to standard output; give --output a directory")
        }
        for name in only where FeedLocation.parts(of: name + "=x").name != name {
            problems.append(
                "--only \(name) is no name of a feed; one has letters, digits, '.', '_' and '-', 64 at the most")
        }
        if only.count > ObjectLimits.wantedPrefixes {
            problems.append("--only is given \(only.count) times; \(ObjectLimits.wantedPrefixes) are the most")
        }
        try refuse(problems)
        try search.refuse(without: relay)
    }

    func fileProblems() -> [String] {
        let problems = tokenFile.map { file in problem("--token-file") { _ = try AccessToken(file: file) } } ?? []
        guard case .file(let path)? = trust else { return problems }
        return problems
            + problem("--trust") { _ = try TLSContext.client(trust: .file(path), alpn: [applicationProtocol]) }
    }

    var options: ReceiverOptions {
        var options = ReceiverOptions(host: server.first.host, port: server.first.port)
        options.others = server.others.map { Subscriber.Source(host: $0.host, port: $0.port) }
        options.trust = insecure ? .anyone : trust ?? .system
        options.tokenFile = tokenFile
        options.path = path
        options.output = output
        options.only = only
        options.count = count
        options.timeout = timeout
        options.interface = interface
        options.relay = relay?.choice(search)
        options.interval = interval
        options.metrics = metrics
        options.reports = report
        options.qlogDirectory = qlog
        options.keyLog = keylog
        options.json = common.json
        options.io = common.io
        return options
    }
}

/// A file's name, or fingerprints with commas between them.
private func parseTrust(_ text: String) throws -> TrustChoice {
    guard text.lowercased().hasPrefix("sha256/") else { return .file(text) }
    return .pinned(
        try text.split(separator: ",").map { part in
            guard let fingerprint = CertificateFingerprint(part) else {
                throw ValidationError("\"\(part)\" is no fingerprint: it is sha256/ and 64 hexadecimal digits")
            }
            return fingerprint
        })
}
