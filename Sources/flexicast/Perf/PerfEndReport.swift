import Endpoint
import Reactor

/// Lines about one end of a measurement.
struct PerfEndReport {
    /// `sends` or `receives`: what a message is.
    var messages: String
    /// Names and values that are not the end's own, in the first line and the summary.
    var setting: [(String, PerfLine.Value)]

    var begin: PerfLine {
        PerfLine(fields: [("event", .text("begin"))] + setting, text: describe(setting) + Self.heading(messages))
    }

    static func heading(_ messages: String) -> String {
        "     seconds  kpackets/s     Mbit/s  ns/packet = protocol + crypto +   I/O  calls/pkt  pkts/\(messages.dropLast())      drops"
    }

    func interval(_ counts: EndCounts, from start: Int64) -> PerfLine {
        PerfLine(
            fields: [("event", .text("interval")), ("start_s", .number(Double(start) / 1e9))] + fields(counts),
            text: row(counts, from: start))
    }

    /// `more`: what came of it besides; `note` is that in words.
    func summary(_ counts: EndCounts, _ more: [(String, PerfLine.Value)] = [], note: String = "") -> PerfLine {
        let packets = Double(counts.packets)
        var text = row(counts, from: 0) + "\n\(counts.packets) packets, "
        text += "\(fixed(1e6 / (Double(counts.cpu) / packets), 1)) kpackets per second of CPU; \(counts.turns) turns, "
        text += "the longest \(fixed(Double(counts.longestTurn) / 1e3, 0)) us; full \(counts.blocked) times, "
        text += "dropped by the kernel \(counts.kernelDrops), refused \(counts.refused)"
        let reasons = counts.refusals.byReason.filter { $0.count > 0 }.map { "\($0.count) \($0.name)" }
        if !reasons.isEmpty { text += " (\(reasons.joined(separator: ", ")))" }
        if counts.truncated > 0 { text += ", cut short \(counts.truncated)" }
        if counts.receiveErrors > 0 { text += ", receives failed \(counts.receiveErrors)" }
        if let allocations = counts.allocations {
            text += "; \(fixed(Double(allocations) / packets, 4)) allocations per packet"
        } else {
            text += "; allocations are counted with LD_PRELOAD=.build/perf/counter.so (Perf/prepare)"
        }
        if !note.isEmpty { text += "\n" + note }
        return PerfLine(
            fields: [("event", .text("summary")), ("start_s", .number(0))] + fields(counts) + more + setting, text: text
        )
    }

    func fields(_ counts: EndCounts) -> [(String, PerfLine.Value)] {
        let packets = Double(counts.packets)
        let seconds = Double(counts.time) / 1e9
        var fields: [(String, PerfLine.Value)] = [
            ("seconds", .number(seconds)), ("packets", .integer(Int(counts.packets))),
            ("packets_per_s", .number(packets / seconds)),
            ("packets_per_cpu_s", .number(packets / Double(counts.cpu) * 1e9)),
            ("bits_per_s", .number(Double(counts.octets) * 8 / seconds)),
            ("cpu_ns_per_packet", .number(Double(counts.cpu) / packets)),
            ("cpu_percent", .number(Double(counts.cpu) / Double(counts.time) * 100)),
            ("system_calls", .integer(Int(counts.systemCalls))),
            ("system_calls_per_packet", .number(Double(counts.systemCalls) / packets)),
            ("packets_per_\(messages.dropLast())", .number(packets / Double(counts.messages))),
            ("turns", .integer(Int(counts.turns))), ("longest_turn_us", .number(Double(counts.longestTurn) / 1e3)),
            ("kernel_drops", .integer(Int(counts.kernelDrops))), ("send_blocked", .integer(Int(counts.blocked))),
            ("send_refused", .integer(Int(counts.refused))), ("unsegmented_runs", .integer(Int(counts.unsegmented))),
            ("truncated", .integer(Int(counts.truncated))), ("receive_errors", .integer(Int(counts.receiveErrors))),
        ]
        fields += counts.refusals.byReason.map { ("send_refused_\($0.name)", .integer(Int($0.count))) }
        if let split = counts.split(per: packets) {
            fields += [
                ("protocol_ns_per_packet", .number(split.protocol)),
                ("crypto_ns_per_packet", .number(split.cryptography)), ("io_ns_per_packet", .number(split.inputOutput)),
            ]
        }
        if let allocations = counts.allocations {
            fields.append(("allocations", .integer(Int(allocations))))
            fields.append(("allocations_per_packet", .number(Double(allocations) / packets)))
        }
        if let copied = counts.copied {
            fields.append(("library_copies_octets", .integer(Int(copied))))
            fields.append(("library_copies_octets_per_packet", .number(Double(copied) / packets)))
        }
        return fields
    }

    /// Protocol, cryptography and I/O.
    private func cells(_ split: (protocol: Double, cryptography: Double, inputOutput: Double)?) -> String {
        func cell(_ value: Double?, _ width: Int) -> String { padded(value.map { fixed($0, 0) } ?? "-", width) }
        return cell(split?.protocol, 11) + cell(split?.cryptography, 9) + cell(split?.inputOutput, 8)
    }

    private func row(_ counts: EndCounts, from start: Int64) -> String {
        let packets = Double(counts.packets)
        let seconds = Double(counts.time) / 1e9
        var text = padded("\(fixed(Double(start) / 1e9, 1))-\(fixed(Double(start + counts.time) / 1e9, 1))", 12)
        text += padded(fixed(packets / seconds / 1e3, 1), 12)
        text += padded(fixed(Double(counts.octets) * 8 / seconds / 1e6, 1), 11)
        text += padded(fixed(Double(counts.cpu) / packets, 0), 11) + cells(counts.split(per: packets))
        text += padded(fixed(Double(counts.systemCalls) / packets, 4), 11)
        text += padded(fixed(packets / Double(counts.messages), 1), 6 + messages.count - 1)
        return text + padded("\(counts.kernelDrops + counts.refused)", 11)
    }
}

extension ReactorCounters.SendErrors {
    /// Datagrams that the kernel refused, by reason, as scripts read it.
    var byReason: [(name: String, count: UInt64)] {
        [
            ("too_large", tooLarge), ("unreachable", unreachable), ("forbidden", forbidden), ("no_buffers", noBuffers),
            ("other", other),
        ]
    }
}

/// `name: value`, one to a line.
func describe(_ setting: [(String, PerfLine.Value)]) -> String {
    var text = ""
    for (name, value) in setting {
        switch value {
        case .text(let value): text += "\(name): \(value)\n"
        case .integer(let value): text += "\(name): \(value)\n"
        case .number(let value): text += "\(name): \(fixed(value, 3))\n"
        case .flag(let value): text += "\(name): \(value ? "yes" : "no")\n"
        }
    }
    return text
}
