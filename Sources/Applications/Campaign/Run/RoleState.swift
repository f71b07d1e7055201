import FoundationEssentials
import Operation

/// A line of a role, as far as a run needs it while it runs.
struct RoleLine: Decodable {
    var event: String
    var certificate: String?
    var id: String?
    var bytesFlow: Int?
    var bytesRepair: Int?
    var bytesUnicast: Int?
    var bytesControl: Int?
    var reason: String?

    init?(_ text: String) {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        guard let line = try? decoder.decode(RoleLine.self, from: Data(text.utf8)) else { return nil }
        self = line
    }
}

/// A role of a run and its process.
final class RoleState {
    /// What became of the process.
    enum Progress: Equatable {
        case waiting
        case starting
        case running
        case ended
    }

    var facts: CampaignFacts.Role
    let arguments: [String]
    var progress = Progress.waiting
    /// Whether it is as it should be before the sending begins.
    var isReady = false
    /// In a word, for who watches.
    var way = ""
    /// Items, counted with doubles.
    var items = 0
    /// It is to end: by a fault, or because the run ends.
    var isExpectedToEnd = false
    /// A fault has ended it, and it is not started again.
    var isGone = false
    var lastLog = ""
    private let events: LineFile
    private let log: LineFile

    init(_ facts: CampaignFacts.Role, arguments: [String], folder: String) {
        self.facts = facts
        self.arguments = arguments
        events = LineFile("\(folder)/\(CampaignFolder.events(of: facts.name))")
        log = LineFile("\(folder)/\(CampaignFolder.log(of: facts.name))")
    }

    var name: String { facts.name }
    var isRunning: Bool { progress == .starting || progress == .running }
    /// Why what it says could not be kept.
    var writeFailure: String? { events.failure ?? log.failure }

    /// Keeps a line that it said, with the time when its host read it.
    func keep(_ text: String, at nanoseconds: Int64) {
        guard text.hasPrefix("{") else { return logged(text) }
        events.write("{\"read_ns\":\(nanoseconds),\(text.dropFirst())")
    }

    /// Keeps what the run knows of it, beside what it says itself.
    func mark(_ event: String, at nanoseconds: Int64, _ more: [(String, any JSONValue)] = []) {
        keep(jsonObject(["event": "campaign-\(event)"], and: more), at: nanoseconds)
    }

    func logged(_ text: String) {
        if !text.isEmpty { lastLog = text }
        log.write(text)
    }

    /// Takes what a receiver said.
    func apply(_ line: RoleLine) {
        switch line.event {
        case "connected":
            way = "unicast"
            if facts.path == .unicast || facts.path == .auto { isReady = true }
        case "listening", "return":
            way = facts.path == .amt ? "flow by amt" : "flow"
            isReady = true
        case "fallback": way = "fell back: \(line.reason ?? "")"
        case "item": items += 1
        default: break
        }
    }
}
