// Who got what, counted from the lines that source and receivers print. Pure: no process, no clock, no terminal.
import FoundationEssentials

/// One version of one item: an edited item keeps its id and is sent again.
struct ItemVersion: Hashable, Sendable {
    var id: String
    var sha256: String
}

/// A line a child printed, as far as the demo needs it.
struct ChildLine: Decodable, Equatable {
    var event: String
    var id: String?
    var sha256: String?
    var bytes: Int?
    var via: String?
    var reason: String?
    var bytesFlow: Int?
    var bytesUnicast: Int?
    var bytesRepair: Int?
    var bytesControl: Int?
    var members: Int?

    init(json: String) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        self = try decoder.decode(Self.self, from: Data(json.utf8))
    }
}

/// What is known about one receiver.
struct ReceiverScore: Equatable, Sendable {
    /// How it gets the flow, if at all.
    enum Mode: String, Codable, Sendable { case flow, amt, unicast }
    enum State: String, Sendable {
        case starting
        case connected = "unicast"
        case listening = "flow"
        case fallenBack = "fell back"
        case ended
    }

    let name: String
    let mode: Mode
    var state = State.starting
    /// The demo loses this share of the flow's packets on their way to it.
    var lossPercent = 0.0
    /// The demo keeps the flow away from it at the moment.
    var isCut = false
    var seen: Set<ItemVersion> = []
    var viaFlow = 0
    var viaUnicast = 0
    var viaMixed = 0
    var duplicates = 0
    var fallbacks = 0
    var returns = 0
    /// UDP payload octets that came on its connection, known when it has ended.
    var bytesUnicast = 0
    /// Filled in at the end, from the files.
    var missing = 0
    var corrupt = 0

    var items: Int { seen.count }

    mutating func apply(_ line: ChildLine) {
        switch line.event {
        case "connected": state = .connected
        case "listening": state = .listening
        case "fallback":
            state = .fallenBack
            fallbacks += 1
        case "return":
            state = .listening
            returns += 1
        case "summary":
            state = .ended
            bytesUnicast = line.bytesUnicast ?? 0
        case "item":
            guard seen.insert(ItemVersion(id: line.id ?? "", sha256: line.sha256 ?? "")).inserted else {
                duplicates += 1
                return
            }
            switch line.via {
            case "flow": viaFlow += 1
            case "mixed": viaMixed += 1
            default: viaUnicast += 1
            }
        default: break
        }
    }
}

/// What the source has sent, in UDP payload octets.
struct SourceScore: Equatable, Sendable {
    var bytesFlow = 0
    var bytesRepair = 0
    var bytesUnicast = 0
    var bytesControl = 0
    var members = 0
    /// Versions sent, in order.
    var sent: [ItemVersion] = []
    /// Octets of the items' documents, and of whole feeds where those are sent instead.
    var bytesOfItems = 0
    var bytesOfFeeds = 0
    /// Octets of what every receiver gets.
    var bytesOfDocuments: Int { bytesOfFeeds > 0 ? bytesOfFeeds : bytesOfItems }

    var total: Int { bytesFlow + bytesRepair + bytesUnicast + bytesControl }
    /// What those on the flow took, whether they had it on the flow or in repair.
    var onFlow: Int { bytesFlow + bytesRepair }
    /// What those on connections took.
    var onConnections: Int { bytesUnicast + bytesRepair }

    mutating func apply(_ line: ChildLine) {
        switch line.event {
        case "item":
            sent.append(ItemVersion(id: line.id ?? "", sha256: line.sha256 ?? ""))
            bytesOfItems += line.bytes ?? 0
        case "feed": bytesOfFeeds += line.bytes ?? 0
        case "interval", "summary":
            bytesFlow = line.bytesFlow ?? bytesFlow
            bytesRepair = line.bytesRepair ?? bytesRepair
            bytesUnicast = line.bytesUnicast ?? bytesUnicast
            bytesControl = line.bytesControl ?? bytesControl
            members = line.members ?? members
        default: break
        }
    }
}

/// The whole demo's counts.
struct Scoreboard: Equatable, Sendable {
    var source = SourceScore()
    var receivers: [ReceiverScore]
    /// Packets of the flow that routers have forwarded to the relay; nil without routers.
    var packetsRouted: Int?

    /// Versions the source has sent and `receiver` has not yet reported.
    func behind(_ receiver: ReceiverScore) -> Int { source.sent.count { !receiver.seen.contains($0) } }

    /// Whether every receiver has reported every version sent.
    var everyoneHasEverything: Bool { receivers.allSatisfy { behind($0) == 0 } }

    /// What the items alone would have cost on a connection per receiver: their octets, without any headers,
    /// acknowledgements or losses, so less than unicast would really send.
    var unicastEquivalent: Int { source.bytesOfDocuments * receivers.count }

    /// How many times less the source has sent than `unicastEquivalent`.
    var saving: Double { source.total > 0 ? Double(unicastEquivalent) / Double(source.total) : 0 }

    /// What a receiver on a connection costs the source, all headers and control counted in: the mean of those that were
    /// on one from first to last. Nil when there is none.
    var unicastCost: Double? {
        let alone = receivers.filter { $0.mode == .unicast }
        guard !alone.isEmpty else { return nil }
        return Double(alone.reduce(0) { $0 + $1.bytesUnicast }) / Double(alone.count)
    }

    /// The saving on the multicast part: what those on the flow would have cost on connections, for each octet that the
    /// flow and its repair took. Nil where nobody is on unicast to compare with.
    var multicastSaving: Double? {
        let listeners = receivers.count { $0.mode != .unicast }
        let sent = source.onFlow
        guard let unicastCost, listeners > 0, sent > 0 else { return nil }
        return Double(listeners) * unicastCost / Double(sent)
    }

    /// Whether nothing is missing, doubled or different.
    var isPerfect: Bool {
        receivers.allSatisfy { $0.missing == 0 && $0.duplicates == 0 && $0.corrupt == 0 }
    }
}

/// Compares a receiver's files with what they must be, both as SHA-256 by file name.
/// - Returns: How many files are not there, and how many are not what they must be or should not be there at all.
func compare(files: [String: String], with expected: [String: String]) -> (missing: Int, corrupt: Int) {
    let missing = expected.keys.count { files[$0] == nil }
    let corrupt = files.count { name, digest in expected[name] != digest }
    return (missing, corrupt)
}
