import ArgumentParser
import System

/// Where a distributed log is, and how it is reached.
struct DistributedLogOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Distributed log (NATS JetStream): the source sends what is in it, flexicast poll fills it.",
            valueName: "nats://host,host/stream"),
        transform: parseLogPlace)
    var log: LogPlace?

    @Option(
        help: ArgumentHelp(
            "PEM file of the authorities that certificates of the log's servers are checked with; connect by TLS.",
            valueName: "file"))
    var logCA: String?

    @Option(
        help: ArgumentHelp(
            "File with who we are at the log's servers: NATS credentials, a line USER:PASSWORD, or a token.",
            valueName: "file"))
    var logCredentials: String?

    /// The log with what reaching it takes.
    var place: LogPlace? {
        var place = log
        place?.authorities = logCA
        place?.credentials = logCredentials
        return place
    }

    var problems: [String] {
        guard log == nil, logCA != nil || logCredentials != nil else { return [] }
        return ["--log-ca and --log-credentials go with --log"]
    }
}

/// `nats://HOST,HOST/STREAM`.
func parseLogPlace(_ text: String) throws -> LogPlace {
    do { return try LogPlace(text) } catch { throw ArgumentProblem(error.reason) }
}
