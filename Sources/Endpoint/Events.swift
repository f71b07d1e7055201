// What source and receiver tell whoever started them, on standard output: one JSON object per line with `--json`, else one line
// of text. Names and units are a contract; scripts read them. A field may be added, never renamed.

/// One value of a JSON object.
enum JSONValue {
    case string(String)
    case integer(Int)
    case milliseconds(Duration)
}

/// Writes `{"name":value,…}` in the order given.
func jsonObject(_ fields: [(String, JSONValue)]) -> String {
    var text = "{"
    for (index, (name, value)) in fields.enumerated() {
        if index > 0 { text += "," }
        text += "\"\(name)\":"
        switch value {
        case .integer(let number): text += String(number)
        case .milliseconds(let duration):
            let (seconds, attoseconds) = duration.components
            let microseconds = seconds * 1_000_000 + attoseconds / 1_000_000_000_000
            let fraction = String(abs(microseconds % 1000))
            text += (microseconds < 0 ? "-" : "") + "\(abs(microseconds) / 1000)."
            text += String(repeating: "0", count: 3 - fraction.count) + fraction
        case .string(let string): appendJSONString(string, to: &text)
        }
    }
    return text + "}"
}

/// RFC 8259 section 7: quotes, backslashes and control characters are escaped, nothing else needs to be.
private func appendJSONString(_ string: String, to text: inout String) {
    text += "\""
    for scalar in string.unicodeScalars {
        switch scalar {
        case "\"": text += "\\\""
        case "\\": text += "\\\\"
        case "\n": text += "\\n"
        case "\r": text += "\\r"
        case "\t": text += "\\t"
        case _ where scalar.value < 0x20:
            let digits = String(scalar.value, radix: 16)
            text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        default: text.unicodeScalars.append(scalar)
        }
    }
    text += "\""
}

/// How an item's octets reached a receiver.
public enum Via: String, Sendable {
    case flow
    case unicast
    /// Some on the flow, some on the unicast path: repaired, or caught by a change of path.
    case mixed
}

/// Why a receiver went back to its unicast path.
public enum FallbackReason: String, Sendable {
    /// Nothing was heard on the flow for three keep-alive intervals.
    case silence
    /// The source sent LEAVE.
    case evicted
    /// The source withdrew the flow.
    case withdrawn
}

/// One thing that happened at a receiver.
public enum ReceiverEvent: Sendable {
    /// The handshake with the source is complete.
    case connected(address: String)
    /// The first packet of the flow was opened: items come from `group` from now on.
    case listening(group: String)
    /// The flow is looked for another way: `multicast` or `amt`.
    case path(String)
    /// The source has said what it has: `answer` is `taken`, `otherEpoch` or `fresh`, `first` the sequence number it serves
    /// from, `next` the one that its next part gets; `uncertainty` is how far the estimate of its clock may be off.
    case position(answer: String, first: UInt64, next: UInt64, uncertainty: Duration)
    /// Nothing will come for `count` sequence numbers from `first` on.
    case gap(first: UInt64, count: UInt64, reason: String)
    case fallback(FallbackReason)
    /// The flow is heard again after a fallback.
    case returned
    /// An item is complete, and on disk when it goes to a directory. `sha256` is of its octets, in hexadecimal. `latency` counts from its
    /// publication, by the source's clock as it is estimated here, to its last octet.
    case item(id: String, title: String, updated: String, bytes: Int, sha256: String, via: Via, latency: Duration)
    case summary(ReceiverSummary)
}

/// What a receiver saw in its whole life.
public struct ReceiverSummary: Sendable {
    public var items = 0
    /// UDP payload octets received on the flow, opened packets only.
    public var bytesFlow = 0
    /// Those of them that came through a relay's tunnel.
    public var bytesTunnel = 0
    /// Steps between the group itself and a tunnel.
    public var steps = 0
    /// UDP payload octets received on the unicast path.
    public var bytesUnicast = 0
    /// Packet numbers of the flow that never came while this receiver listened.
    public var packetsLost = 0
    /// Items of which a part was lost on the flow and came again.
    public var repaired = 0
    public var fallbacks = 0
    public var returns = 0
    /// Packets that came and were of no use: forged, damaged, of nobody's, or against a rule.
    public var packetsRejected = 0
    /// Parts of items that were told as missing for good, and items that will not be whole.
    public var missing = 0

    public init() {}
}

/// One thing that happened at a source.
public enum SourceEvent: Sendable {
    /// Receivers can connect. `group` is empty without a flow.
    case listening(address: String, group: String)
    /// A new or edited item goes out. `sha256` is of the octets every receiver must end up with.
    case item(id: String, title: String, updated: String, bytes: Int, sha256: String)
    /// The whole feed goes out, with the items that are told of next.
    case feed(bytes: Int, sha256: String)
    case interval(SourceCounts)
    case summary(SourceCounts)
}

/// What a source has sent since it started, in UDP payload octets, each octet under one name only.
public struct SourceCounts: Sendable {
    /// The flow's packets, keep-alive included, repairs not.
    public var bytesFlow = 0
    /// Copies of the flow's packets for receivers that are sent them one by one.
    public var bytesReplicated = 0
    /// Receivers that copies go to now.
    public var replicated = 0
    /// Items on unicast paths: history, receivers without a flow, receivers that fell back.
    public var bytesUnicast = 0
    /// Parts of items that were lost on the flow, on the flow again or on a unicast path.
    public var bytesRepair = 0
    /// Everything else on unicast paths: handshakes, acknowledgements, announcements, keys.
    public var bytesControl = 0
    /// Connections that are open now.
    public var receivers = 0
    /// Receivers on the flow now.
    public var members = 0
    /// Items sent so far.
    public var items = 0
    /// Packets that came and were of no use: forged, damaged, of no connection, or against a rule.
    public var packetsRejected = 0
    /// Connections that were closed because too much waited for a slow receiver: none are, since nothing waits for one.
    public var receiversLetGo = 0
    /// Parts of items that receivers were told are not kept any more.
    public var partsGone = 0
    /// Clients that got no connection because of a limit.
    public var connectionsRefused = 0
    /// Receivers that wait now for their turn to be sent something on unicast, because of its limit.
    public var receiversWaiting = 0
    /// Parts of items sent again to receivers that had them, for want of room to remember which those were.
    public var partsSentAgain = 0
    /// Control streams that broke a rule; their connections were closed.
    public var controlErrors = 0
    /// Times that a receiver was handed nothing more until it takes what it is told on its control stream.
    public var controlWaits = 0
    /// Whether the flow's packets leave without a copy, and why; nil without a flow to a group.
    public var zeroCopy: String?

    public init() {}
}

/// One line for a program and one for a person; the person's line is nil where there is nothing worth saying.
public protocol EventLine {
    var json: String { get }
    var text: String? { get }
}

extension ReceiverEvent: EventLine {
    public var json: String {
        switch self {
        case .connected(let address):
            jsonObject([("event", .string("connected")), ("address", .string(address))])
        case .listening(let group):
            jsonObject([("event", .string("listening")), ("group", .string(group))])
        case .path(let path):
            jsonObject([("event", .string("path")), ("path", .string(path))])
        case .position(let answer, let first, let next, let uncertainty):
            jsonObject([
                ("event", .string("position")), ("answer", .string(answer)), ("first", .integer(Int(clamping: first))),
                ("next", .integer(Int(clamping: next))), ("clock_uncertainty_ms", .milliseconds(uncertainty)),
            ])
        case .gap(let first, let count, let reason):
            jsonObject([
                ("event", .string("gap")), ("first", .integer(Int(clamping: first))),
                ("count", .integer(Int(clamping: count))), ("reason", .string(reason)),
            ])
        case .fallback(let reason):
            jsonObject([("event", .string("fallback")), ("reason", .string(reason.rawValue))])
        case .returned:
            jsonObject([("event", .string("return"))])
        case .item(let id, let title, let updated, let bytes, let sha256, let via, let latency):
            jsonObject([
                ("event", .string("item")), ("id", .string(id)), ("title", .string(title)),
                ("updated", .string(updated)), ("bytes", .integer(bytes)), ("sha256", .string(sha256)),
                ("via", .string(via.rawValue)), ("latency_ms", .milliseconds(latency)),
            ])
        case .summary(let summary):
            jsonObject([
                ("event", .string("summary")), ("items", .integer(summary.items)),
                ("bytes_flow", .integer(summary.bytesFlow)), ("bytes_unicast", .integer(summary.bytesUnicast)),
                ("packets_lost", .integer(summary.packetsLost)), ("repaired", .integer(summary.repaired)),
                ("fallbacks", .integer(summary.fallbacks)), ("returns", .integer(summary.returns)),
                ("bytes_amt", .integer(summary.bytesTunnel)), ("steps", .integer(summary.steps)),
                ("packets_rejected", .integer(summary.packetsRejected)), ("missing", .integer(summary.missing)),
            ])
        }
    }

    public var text: String? {
        switch self {
        case .connected(let address): "connected to \(address)"
        case .listening(let group): "listening to the flow on \(group)"
        case .path(let path): "looking for the flow by \(path)"
        case .position(_, _, _, _): nil
        case .gap(let first, let count, let reason):
            "missing for good: \(count) part\(count == 1 ? "" : "s") of items from number \(first) on, \(reason)"
        case .fallback(let reason): "back on unicast: \(reason.rawValue)"
        case .returned: "on the flow again"
        case .item(_, let title, let updated, let bytes, _, let via, _):
            "\(updated)  \(title)  (\(bytes) B, \(via.rawValue))"
        case .summary(let summary):
            """
            \(summary.items) items, \(summary.bytesFlow) B on the flow, \(summary.bytesUnicast) B on unicast, \
            \(summary.packetsLost) packets lost, \(summary.repaired) items repaired, \(summary.fallbacks) fallbacks, \
            \(summary.returns) returns\(summary.missing > 0 ? ", \(summary.missing) missing for good" : "")
            """
        }
    }
}

extension SourceEvent: EventLine {
    public var json: String {
        switch self {
        case .listening(let address, let group):
            jsonObject([("event", .string("listening")), ("address", .string(address)), ("group", .string(group))])
        case .item(let id, let title, let updated, let bytes, let sha256):
            jsonObject([
                ("event", .string("item")), ("id", .string(id)), ("title", .string(title)),
                ("updated", .string(updated)), ("bytes", .integer(bytes)), ("sha256", .string(sha256)),
            ])
        case .feed(let bytes, let sha256):
            jsonObject([("event", .string("feed")), ("bytes", .integer(bytes)), ("sha256", .string(sha256))])
        case .interval(let counts): counts.json(event: "interval")
        case .summary(let counts): counts.json(event: "summary")
        }
    }

    public var text: String? {
        switch self {
        case .listening(let address, let group):
            group.isEmpty ? "listening on \(address), no flow" : "listening on \(address), flow to \(group)"
        case .item(_, let title, let updated, let bytes, _): "\(updated)  \(title)  (\(bytes) B)"
        case .feed(let bytes, _): "the whole feed  (\(bytes) B)"
        case .interval: nil
        case .summary(let counts):
            """
            \(counts.items) items, \(counts.bytesFlow) B on the flow, \(counts.bytesRepair) B in repair, \
            \(counts.bytesReplicated > 0 ? "\(counts.bytesReplicated) B in copies of the flow, " : "")\
            \(counts.bytesUnicast) B on unicast, \(counts.bytesControl) B of control
            """
        }
    }
}

extension SourceCounts {
    fileprivate func json(event: String) -> String {
        let zeroCopy: [(String, JSONValue)] = zeroCopy.map { [("zero_copy", .string($0))] } ?? []
        return jsonObject(
            [
                ("event", .string(event)), ("bytes_flow", .integer(bytesFlow)),
                ("bytes_unicast", .integer(bytesUnicast)),
                ("bytes_repair", .integer(bytesRepair)), ("bytes_control", .integer(bytesControl)),
                ("receivers", .integer(receivers)), ("members", .integer(members)), ("items", .integer(items)),
                ("packets_rejected", .integer(packetsRejected)), ("receivers_let_go", .integer(receiversLetGo)),
                ("bytes_replicated", .integer(bytesReplicated)), ("replicated", .integer(replicated)),
                ("parts_gone", .integer(partsGone)),
                ("connections_refused", .integer(connectionsRefused)),
                ("receivers_waiting", .integer(receiversWaiting)), ("parts_sent_again", .integer(partsSentAgain)),
                ("control_errors", .integer(controlErrors)), ("control_waits", .integer(controlWaits)),
            ] + zeroCopy)
    }
}
