import ArgumentParser
import Cryptography
import Feeds
import Objects
import Reactor
import Transport
import Wire

struct SourceCommand: ParsableCommand, ReadsFiles {
    static let configuration = CommandConfiguration(
        commandName: "source",
        abstract: "Poll a feed and push each new item to every receiver.",
        discussion: """
            Each item is a standalone Atom entry document on one QUIC stream: on the multicast flow for receivers that \
            hear it, on their own connection for the others.
            """)

    @Option(
        help: ArgumentHelp(
            "A feed: an http, https or file URL, or a path, also after a name that receivers can choose; may be given again.",
            valueName: "[name=]url"))
    var feed: [String] = []

    @OptionGroup var distributedLog: DistributedLogOptions

    @Option(
        help: ArgumentHelp("Time between two polls (default: 5s).", valueName: "duration"), transform: parseDuration)
    var poll: Duration = .seconds(5)

    @Option(help: ArgumentHelp("Where receivers connect.", valueName: "addr:port"), transform: parseListenAddress)
    var listen: SocketAddress

    @Option(
        help: ArgumentHelp(
            "Multicast group and UDP port of the flow; without it everyone is on unicast.",
            valueName: "group:port"),
        transform: parseGroup)
    var group: SocketAddress?

    @Flag(help: "Send copies of the flow to receivers that the group does not reach; without --group to all.")
    var replicate = false

    @Option(
        help: ArgumentHelp(
            "How long a receiver is sent copies before it is tried on the group again (default: 10m).",
            valueName: "duration"),
        transform: parseDuration)
    var groupRetry = Duration.seconds(600)

    @Option(help: ArgumentHelp("Interface the flow leaves through.", valueName: "if"))
    var interface: String?

    @Option(
        help: ArgumentHelp(
            "TTL of the flow's packets, 1 to 255 (default: 16); each router takes one, and so does a relay.",
            valueName: "n"),
        transform: parseInteger(in: 1...255, "a number of hops"))
    var ttl = 16

    @Option(
        help: ArgumentHelp(
            """
            Octets of the flow's packets, 1200 to 1472 (default: 1200). On a path of 1500, 1472 pass over IPv4, 1452 over \
            IPv6, 1402 through every tunnel of a relay.
            """,
            valueName: "octets"),
        transform: parseInteger(in: 1200...1472, "a number of octets"))
    var packetSize = 1200

    @OptionGroup var datagramLimit: DatagramSizeOptions

    @Flag(help: "Refuse a feed that is not well-formed; without it, what is good in it is read and the fault told.")
    var strict = false

    @Flag(help: "Send the whole feed as one document each time that it changes, not only what has changed.")
    var wholeFeed = false

    @Option(
        help: ArgumentHelp("PEM file of the certificate chain; without it one is made for this run.", valueName: "file")
    )
    var certificate: String?

    @Option(help: ArgumentHelp("PEM file of the certificate's private key.", valueName: "file"))
    var key: String?

    @Option(
        help: ArgumentHelp("Write the certificate in use here, for receivers to --trust.", valueName: "file"))
    var writeCertificate: String?

    @Option(
        help: ArgumentHelp(
            "The most the flow may send, in bits per second, such as 50M (default: 100M).", valueName: "bits"),
        transform: parseRate)
    var rate: UInt64?

    @Option(
        help: ArgumentHelp(
            "What the flow does not go below, whoever asks; slower receivers are served one by one (default: 256k).",
            valueName: "bits"),
        transform: parseRate)
    var rateFloor: UInt64?

    @Option(
        help: ArgumentHelp(
            "How many per cent of the receivers' addresses the flow's rate has to suit (default: 75).",
            valueName: "percent"),
        transform: parseInteger(in: 50...100, "a number of per cent"))
    var pacePercent: Int?

    @Option(
        help: ArgumentHelp(
            "The most that goes to receivers one by one, in bits per second, shared fairly by address (default: no limit).",
            valueName: "bits"),
        transform: parseRate)
    var unicastRate: UInt64?

    @Option(
        help: ArgumentHelp(
            "How long acknowledgements may be held back: auto (default), or a duration.", valueName: "auto|duration"),
        transform: { try AcknowledgementDelay($0) })
    var ackDelay = AcknowledgementDelay.auto

    @Option(
        help: ArgumentHelp("How many recent items a new receiver is given first (default: 100).", valueName: "n"),
        transform: parseInteger(in: 0...100_000, "a number of items"))
    var history = 100

    @Option(
        help: ArgumentHelp(
            """
            What is kept for receivers that come back or are slow: so many items, so long, and so many octets of them, such as \
            100000,30d,10GB (default: 100000 items and 64MiB, of any age). With --state more is kept than memory holds.
            """,
            valueName: "limits"),
        transform: { try RetentionArgument($0) })
    var retain: RetentionArgument?

    @Option(
        help: ArgumentHelp("As octets in --retain, which is the newer form.", valueName: "octets"),
        transform: parseInteger(in: 1 << 20...1 << 40, "a number of octets"))
    var retainOctets: Int?

    @Option(
        help: ArgumentHelp("As a time in --retain, which is the newer form.", valueName: "duration"),
        transform: parseDuration)
    var retainFor: Duration?

    @Option(
        help: ArgumentHelp("Connections at once, of all receivers (default: 20000).", valueName: "n"),
        transform: parseInteger(in: 1...1_000_000, "a number of connections"))
    var connections = 20_000

    @Option(
        help: ArgumentHelp(
            "Connections at once from one IPv4 address or IPv6 /64 (default: 256).", valueName: "n"),
        transform: parseInteger(in: 1...1_000_000, "a number of connections"))
    var connectionsPerAddress = 256

    @Option(
        help: ArgumentHelp(
            "File of names and tokens, one pair a line: only receivers with one of the tokens are served.",
            valueName: "file"))
    var access: String?

    @Option(
        help: ArgumentHelp("Directory that remembers items and which were sent, across restarts.", valueName: "dir"))
    var state: String?

    @Option(
        help: ArgumentHelp(
            "Serve a live page, /metrics for Prometheus, /receivers and /health here, over HTTP.",
            valueName: "addr:port"),
        transform: parsePagesAddress)
    var metrics: ListeningPlace?

    @Option(
        help: ArgumentHelp(
            "How long receivers may take after SIGTERM to get what was published (default: 5s).", valueName: "duration"),
        transform: parseDuration)
    var drain: Duration = .seconds(5)

    @Option(help: ArgumentHelp("Write one qlog file per connection into this directory.", valueName: "dir"))
    var qlog: String?

    @Option(help: ArgumentHelp("Append TLS secrets to this file.", valueName: "file"))
    var keylog: String?

    @Option(
        help: ArgumentHelp(
            "Send the flow without a copy (io_uring): auto measures which is cheaper (default), on, off.",
            valueName: "auto|on|off"))
    var zeroCopy = ZeroCopyMode.auto

    @OptionGroup var cipherLibrary: AEADOptions
    @OptionGroup var configuration: ConfigurationOptions
    @OptionGroup var common: CommonOptions

    func run() throws {
        throw ExitCode(try runSource(options, reload: Self.reload(), log: common.makeLogger("source")))
    }

    /// What may change while the source runs; all else takes a restart.
    private static let changeable: Set = [
        "feed", "poll", "certificate", "key", "rate", "rate-floor", "history", "connections", "connections-per-address",
        "drain", "log-level", "config",
    ]

    /// Reads the configuration again, each time that it is asked to.
    private static func reload() throws -> (() throws -> SourceReload)? {
        guard var reading = try ConfiguredCommand.reading() else { return nil }
        return {
            do {
                let (command, changed) = try reading.again(as: SourceCommand.self)
                LineLogHandler.level = command.common.logLevel
                return SourceReload(options: command.options, unchangeable: changed.subtracting(changeable).sorted())
            } catch let error as ConfigurationProblems {
                throw ReloadRefusal(problems: error.all.map(\.description))
            }
        }
    }

    func validate() throws {
        var problems = distributedLog.problems
        if feed.isEmpty, distributedLog.log == nil {
            problems.append("nothing to send; give --feed, or --log with a log that flexicast poll fills")
        }
        if !feed.isEmpty, distributedLog.log != nil {
            problems.append("--feed and --log exclude each other; flexicast poll --feed … --log … fills the log")
        }
        if (certificate == nil) != (key == nil) {
            problems.append("--certificate and --key go together; give both, or neither for a self-signed one")
        }
        if let group, !listen.address.isUnspecified, group.address.isIPv4 != listen.address.isIPv4 {
            problems.append(
                "--group \(group.address) and --listen \(listen.address) are of different IP versions; use one for both"
            )
        }
        if let rateFloor, rateFloor > rate ?? FlowOptions.usualRate {
            problems.append("--rate-floor is above --rate; give a lower floor, or let the flow send more")
        }
        problems += feedProblems(feed)
        if retain?.octets != nil, retainOctets != nil {
            problems.append("--retain-octets and the octets in --retain say the same; leave --retain-octets out")
        }
        if retain?.age != nil, retainFor != nil {
            problems.append("--retain-for and the time in --retain say the same; leave --retain-for out")
        }
        if wholeFeed, feed.count > 1 {
            problems.append("--whole-feed sends one feed; leave it out, or run a source for each --feed")
        }
        try refuse(problems)
    }

    func fileProblems() -> [String] {
        var problems = access.map { file in problem("--access") { _ = try AccessList(file: file) } } ?? []
        guard let certificate, let key else { return problems }
        problems += problem("--certificate, --key") {
            _ = try TLSContext.server(certificateFile: certificate, keyFile: key, alpn: [applicationProtocol])
        }
        return problems
    }

    var options: SourceOptions {
        var options = SourceOptions(feeds: feed, listen: listen)
        options.distributedLog = distributedLog.place
        options.pollInterval = poll
        options.strict = strict
        options.flow.group = group
        options.flow.replicates = replicate
        options.groupRetry = groupRetry
        options.flow.interface = interface
        options.flow.timeToLive = UInt8(ttl)
        options.flow.packetSize = packetSize
        options.maxDatagramSize = datagramLimit.maxDatagramSize
        options.wholeFeed = wholeFeed
        if let certificate, let key { options.certificate = CertificateFiles(certificate: certificate, key: key) }
        options.certificateOutput = writeCertificate
        options.flow.rate = rate
        if let rateFloor { options.flow.rateFloor = rateFloor }
        if let pacePercent { options.flow.pacePercent = pacePercent }
        options.unicastRate = unicastRate
        options.flow.zeroCopy = zeroCopy
        if case .fixed(let delay) = ackDelay { options.flow.acknowledgementDelay = delay }
        options.history = history
        let usual = SourceOptions.usualRetention
        options.retention = Retention(
            objects: retain?.objects ?? usual.objects, octets: retain?.octets ?? retainOctets ?? usual.octets,
            age: retain?.age ?? retainFor)
        options.connections = connections
        options.connectionsPerAddress = connectionsPerAddress
        options.access = access
        options.stateDirectory = state
        options.qlogDirectory = qlog
        options.keyLog = keylog
        options.metrics = metrics
        options.drain = drain
        options.json = common.json
        options.io = common.io
        return options
    }
}
