import Measurement
import Operation
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
        var text = row(counts, from: 0) + "\n\(counts.packets) packets, "
        text += "\(fixed(Double(counts.packets) / Double(counts.cpu) * 1e6, 1)) kpackets per second of CPU, "
        text += "\(fixed(counts.cpuPercent, 0)) % of one; \(Self.notes(counts))"
        if counts.allocations == nil {
            text += "; allocations are counted with LD_PRELOAD=.build/perf/counter.so (Perf/prepare)"
        }
        if !note.isEmpty { text += "\n" + note }
        return PerfLine(
            fields: [("event", .text("summary")), ("start_s", .number(0))] + fields(counts) + more + setting, text: text
        )
    }

    /// Turns, drops by cause and allocations, in words.
    static func notes(_ counts: EndCounts) -> String {
        var text = "\(counts.turns) turns, the longest \(fixed(Double(counts.longestTurn) / 1e3, 0)) us; "
        text += "full \(counts.blocked) times, dropped by the kernel \(counts.kernelDrops), refused \(counts.refused)"
        let reasons = counts.refusals.byReason.filter { $0.count > 0 }.map { "\($0.count) \($0.name)" }
        if !reasons.isEmpty { text += " (\(reasons.joined(separator: ", ")))" }
        if counts.truncated > 0 { text += ", cut short \(counts.truncated)" }
        if counts.receiveErrors > 0 { text += ", receives failed \(counts.receiveErrors)" }
        guard let allocations = counts.allocations else { return text }
        return text + "; \(fixed(Double(allocations) / Double(counts.packets), 4)) allocations per packet"
    }

    /// What a packet costs another end, in words.
    static func costs(_ counts: EndCounts, messages: String) -> String {
        let packets = Double(counts.packets)
        var text = "\(fixed(Double(counts.cpu) / packets, 0)) ns of CPU"
        if let split = counts.split(per: packets) {
            text += " (protocol \(fixed(split.protocol, 0)), cryptography \(fixed(split.cryptography, 0)), "
            text += "I/O \(fixed(split.inputOutput, 0)))"
        }
        text += " and \(fixed(Double(counts.systemCalls) / packets, 4)) system calls per packet, "
        text += "\(fixed(packets / Double(counts.messages), 1)) packets per \(messages.dropLast()); "
        return text + notes(counts)
    }

    /// The fields of another end, that of `counts`, each with `name` before it.
    static func otherEnd(_ name: String, _ counts: EndCounts, messages: String = "receives") -> [(
        String, PerfLine.Value
    )] {
        PerfEndReport(messages: messages, setting: []).fields(counts).map { ("\(name)_\($0.0)", $0.1) }
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
            ("cpu_percent", .number(counts.cpuPercent)),
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

extension EndCounts {
    /// Of one processor.
    var cpuPercent: Double { Double(cpu) / Double(time) * 100 }
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
