import FoundationEssentials

/// `--report`, as scripts read it.
struct DemoReport: Codable, Equatable {
    struct Receiver: Codable, Equatable {
        var name: String
        var mode: ReceiverScore.Mode
        var items: Int
        var missing: Int
        var duplicates: Int
        var corrupt: Int
        var fallbacks: Int
        var returns: Int
    }

    /// UDP payload octets.
    struct Source: Codable, Equatable {
        var bytesFlow: Int
        var bytesRepair: Int
        var bytesUnicast: Int
        var bytesControl: Int

        init(_ source: SourceScore) {
            bytesFlow = source.bytesFlow
            bytesRepair = source.bytesRepair
            bytesUnicast = source.bytesUnicast
            bytesControl = source.bytesControl
        }
    }

    /// What the run was asked for.
    struct Parameters: Codable, Equatable {
        var items: Int
        var intervalMs: Double
        var receivers: Int
        var unicast: Int
        var lossPercent: Double
        var network: String
        var amt: Bool
        var wholeFeed: Bool
        var io: String
        var feed: String?
    }

    /// What it ran on.
    struct Machine: Codable, Equatable {
        var system: String
        var processors: Int
        /// As `flexicast --version` says.
        var version: [String]

        static var this: Machine {
            let release = (try? String(contentsOfFile: "/proc/sys/kernel/osrelease", encoding: .utf8))?.trimmed
            return Machine(
                system: "Linux \(release ?? "")",
                processors: ProcessInfo.processInfo.activeProcessorCount,
                version: Version.description.split(separator: "\n").map(String.init))
        }
    }

    /// The same receivers on connections.
    struct Comparison: Codable, Equatable {
        var receivers: Int
        var source: Source
        var series: [FigureSample]
        /// Times less on the flow with its repair.
        var saving: Double
    }

    var items: Int
    var interrupted: Bool
    var receivers: [Receiver]
    var source: Source
    var packetsRouted: Int?
    var unicastEquivalentBytes: Int
    var saving: Double
    var multicastSaving: Double?
    var compared: Comparison?
    /// What the source had sent, each time it said so, since the first item.
    var series: [FigureSample]
    var parameters: Parameters
    var machine: Machine

    init(_ outcome: DemoOutcome) {
        let board = outcome.board
        let settings = outcome.settings
        let twoPlaces = { (number: Double) in (number * 100).rounded() / 100 }
        items = board.source.sent.count
        interrupted = outcome.isInterrupted
        receivers = board.receivers.map {
            Receiver(
                name: $0.name, mode: $0.mode, items: $0.items, missing: $0.missing, duplicates: $0.duplicates,
                corrupt: $0.corrupt, fallbacks: $0.fallbacks, returns: $0.returns)
        }
        source = Source(board.source)
        packetsRouted = board.packetsRouted
        unicastEquivalentBytes = board.unicastEquivalent
        saving = twoPlaces(board.saving)
        multicastSaving = board.multicastSaving.map(twoPlaces)
        compared = outcome.compared.first.map { other in
            Comparison(
                receivers: other.board.receivers.count, source: Source(other.board.source), series: other.samples,
                saving: twoPlaces(outcome.measuredSaving ?? 0))
        }
        series = outcome.samples
        parameters = Parameters(
            items: settings.items, intervalMs: Double(settings.interval.wholeNanoseconds) / 1e6,
            receivers: settings.flowReceivers, unicast: settings.unicastReceivers, lossPercent: settings.lossPercent,
            network: outcome.network, amt: board.receivers.contains { $0.mode == .amt }, wholeFeed: settings.wholeFeed,
            io: settings.io, feed: settings.feed)
        machine = .this
    }

    func json() throws -> Data {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(self) + Data("\n".utf8)
    }
}
