import ArgumentParser
import Feeds
import FoundationEssentials
import Logging
import Operation
import Synchronization
import System
import Transport

extension IOBackendChoice: ExpressibleByArgument {}

private let levelNames = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")

private func parseLogLevel(_ text: String) throws -> Logger.Level {
    guard let level = Logger.Level(rawValue: text) else { throw ArgumentProblem("write one of \(levelNames)") }
    return level
}

/// Options every long-running command has.
struct CommonOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Input/output backend: auto, io_uring or epoll.", valueName: "backend"))
    var io: IOBackendChoice = .auto

    @Option(
        help: ArgumentHelp("Least severe log level shown: \(levelNames) (default: info).", valueName: "level"),
        transform: parseLogLevel
    )
    var logLevel: Logger.Level = .info

    @Flag(help: "Print one JSON object per line on standard output.")
    var json = false

    /// Logs go to standard error, whatever the command prints.
    func makeLogger(_ label: String) -> Logger {
        LineLogHandler.level = logLevel
        return Logger(label: label) { LineLogHandler(label: $0) }
    }
}

/// `--config`. The file has been read when this is parsed (`ConfiguredCommand`).
struct ConfigurationOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Read the options that are not given here from this file.", valueName: "file"))
    var config: String?
}

/// `--max-datagram-size`, for servers of plain connections.
struct DatagramSizeOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            """
            Largest UDP payload that is tried on a connection: 1200 tries none, 1452 and 1472 fill a packet of 1500 octets \
            over IPv6 and IPv4, 8952 and 8972 one of 9000 (default: 8972).
            """, valueName: "octets"),
        transform: parseInteger(in: 1200...65_400, "a number of octets"))
    var maxDatagramSize = SourceOptions.datagramSizeLimit
}

/// `2026-11-23T01:38:00.123Z info source: message key=value`, one line per entry on standard error.
struct LineLogHandler: LogHandler {
    let label: String
    /// That of all of the process, so that it can be changed while it runs.
    var logLevel: Logger.Level {
        get { Self.level }
        set { Self.level = newValue }
    }
    var metadata: Logger.Metadata = [:]

    init(label: String) { self.label = label }

    private static let levels = Logger.Level.allCases
    private static let current = Atomic(levels.firstIndex(of: .info) ?? 0)

    static var level: Logger.Level {
        get { levels[current.load(ordering: .relaxed)] }
        set { current.store(levels.firstIndex(of: newValue) ?? 0, ordering: .relaxed) }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let line = Self.line(
            time: Date(), level: event.level, label: label, message: event.message.description,
            metadata: metadata.merging(event.metadata ?? [:]) { $1 })
        // A closed standard error is no reason to stop working.
        try? OpenFile.standardError.write(Array(line.utf8))
    }

    static func line(
        time: Date, level: Logger.Level, label: String, message: String, metadata: Logger.Metadata
    ) -> String {
        var line = "\(timestamp(time)) \(level) \(label): \(oneLine(message))"
        for (key, value) in metadata.sorted(by: { $0.key < $1.key }) {
            let text = oneLine(value.description)
            line += text.contains(" ") || text.isEmpty ? " \(key)=\"\(text)\"" : " \(key)=\(text)"
        }
        return line + "\n"
    }

    /// What a peer or a feed supplied must not forge a second line or drive the terminal.
    private static func oneLine(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) else { return text }
        var safe = ""
        for scalar in text.unicodeScalars {
            safe.unicodeScalars.append(scalar.properties.generalCategory == .control ? "\u{fffd}" : scalar)
        }
        return safe
    }
}
