import Endpoint

/// A line of `flexicast perf`: named values for machines, and a text for people.
struct PerfLine: EventLine {
    enum Value {
        case text(String)
        case integer(Int)
        /// With three digits after the point.
        case number(Double)
        case flag(Bool)
    }

    var fields: [(String, Value)]
    var text: String?

    var json: String {
        var line = "{"
        for (index, (name, value)) in fields.enumerated() {
            if index > 0 { line += "," }
            line += "\"\(name)\":"
            switch value {
            case .text(let text): line += Self.quoted(text)
            case .integer(let number): line += "\(number)"
            case .number(let number): line += abs(number) < 1e15 ? fixed(number, 4) : "null"
            case .flag(let flag): line += flag ? "true" : "false"
            }
        }
        return line + "}"
    }

    private static func quoted(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": out += "\\\(scalar)"
            case _ where scalar.value < 0x20: out += " "
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out + "\""
    }
}

/// `value` with `digits` digits after the point.
func fixed(_ value: Double, _ digits: Int) -> String {
    guard abs(value) < 1e15 else { return "-" }
    var factor = 1.0
    for _ in 0..<digits { factor *= 10 }
    let scaled = Int((abs(value) * factor).rounded())
    let whole = scaled / Int(factor)
    guard digits > 0 else { return value < 0 ? "-\(whole)" : "\(whole)" }
    let fraction = String(scaled % Int(factor))
    return (value < 0 ? "-" : "") + "\(whole)." + String(repeating: "0", count: digits - fraction.count) + fraction
}

func padded(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
}

/// What `flexicast perf flow` says.
struct PerfFlowReport {
    let setting: [(String, PerfLine.Value)]
    let isHeard: Bool
    let countsAllocations: Bool

    var begin: PerfLine {
        var text = describe(setting)
        text += "     seconds  kpackets/s     Mbit/s  ns/packet = protocol + crypto +   I/O   calls/pkt  pkts/send"
        return PerfLine(fields: [("event", .text("begin"))] + setting, text: text)
    }

    func line(_ counts: FlowTrialCounts, from start: Int64, name: String, zeroCopy: String? = nil) -> PerfLine {
        let packets = Double(counts.packets)
        let seconds = Double(counts.time) / 1e9
        let total = Double(counts.threadTime) / packets
        let measured = Double(counts.measuredPackets)
        let flow = Double(counts.flowTime) / measured
        let cryptography = Double(counts.cryptographyTime) / measured
        var fields: [(String, PerfLine.Value)] = [
            ("event", .text(name)), ("start_s", .number(Double(start) / 1e9)), ("seconds", .number(seconds)),
            ("packets", .integer(Int(counts.packets))), ("packets_per_s", .number(packets / seconds)),
            ("packets_per_cpu_s", .number(1e9 / total)),
            ("bits_per_s", .number(Double(counts.octets) * 8 / seconds)), ("cpu_ns_per_packet", .number(total)),
            ("protocol_ns_per_packet", .number(flow)), ("crypto_ns_per_packet", .number(cryptography)),
            ("io_ns_per_packet", .number(total - flow - cryptography)),
            ("overhead_octets", .integer(Int(counts.overhead))),
            ("overhead_octets_per_packet", .number(Double(counts.overhead) / packets)),
            ("system_calls", .integer(Int(counts.systemCalls))),
            ("system_calls_per_packet", .number(Double(counts.systemCalls) / packets)),
            ("packets_per_send", .number(packets / Double(counts.sends))), ("turns", .integer(Int(counts.turns))),
            ("longest_turn_us", .number(Double(counts.longestTurn) / 1e3)),
            ("acknowledgements", .integer(Int(counts.acknowledgements))),
            ("loss_reports", .integer(Int(counts.lossReports))), ("send_blocked", .integer(Int(counts.blocked))),
            ("send_refused", .integer(Int(counts.refused))), ("unsegmented_runs", .integer(Int(counts.unsegmented))),
        ]
        if countsAllocations {
            fields.append(("allocations", .integer(Int(counts.allocations))))
            fields.append(("allocations_per_packet", .number(Double(counts.allocations) / packets)))
            fields.append(("library_copies_octets", .integer(Int(counts.copied))))
            fields.append(("library_copies_octets_per_packet", .number(Double(counts.copied) / packets)))
        }
        if isHeard {
            let received = Double(counts.received)
            fields += [
                ("received", .integer(Int(counts.received))),
                ("receiver_cpu_ns_per_packet", .number(Double(counts.receiverTime) / received)),
                ("receiver_system_calls_per_packet", .number(Double(counts.receiverSystemCalls) / received)),
                ("packets_per_receive", .number(received / Double(counts.receives))),
                ("receiver_drops", .integer(Int(counts.receiverDrops))),
            ]
        }
        if let zeroCopy {
            fields += [
                ("zero_copy", .text(zeroCopy)), ("zero_copy_sends", .integer(Int(counts.zeroCopySends))),
                ("zero_copy_copied", .integer(Int(counts.zeroCopyCopied))),
            ]
        }
        if name == "summary" { fields += setting }
        var text = padded("\(fixed(Double(start) / 1e9, 1))-\(fixed(Double(start + counts.time) / 1e9, 1))", 12)
        text += padded(fixed(packets / seconds / 1e3, 1), 12)
        text += padded(fixed(Double(counts.octets) * 8 / seconds / 1e6, 1), 11)
        text += padded(fixed(total, 0), 11) + padded(fixed(flow, 0), 11) + padded(fixed(cryptography, 0), 9)
        text += padded(fixed(total - flow - cryptography, 0), 8)
        text += padded(fixed(Double(counts.systemCalls) / packets, 4), 12)
        text += padded(fixed(packets / Double(counts.sends), 1), 11)
        if name == "summary" { text += "\n" + notes(counts) }
        if let zeroCopy { text += "\nzero-copy \(zeroCopy)" }
        return PerfLine(fields: fields, text: text)
    }

    private func notes(_ counts: FlowTrialCounts) -> String {
        let packets = Double(counts.packets)
        var text = "\(counts.packets) packets, \(counts.acknowledgements) acknowledgements, "
        text += "\(fixed(1e6 / (Double(counts.threadTime) / packets), 1)) kpackets per second of the source's CPU; "
        text += "\(counts.turns) turns, the longest \(fixed(Double(counts.longestTurn) / 1e3, 0)) us; "
        text += "full \(counts.blocked) times, refused \(counts.refused), lost \(counts.lossReports)"
        if countsAllocations { text += "; \(fixed(Double(counts.allocations) / packets, 4)) allocations per packet" }
        if isHeard {
            let received = Double(counts.received)
            text += "\nheard \(counts.received), \(counts.receiverDrops) dropped by the kernel; "
            text += "\(fixed(Double(counts.receiverTime) / received, 0)) ns of the receiver's CPU, "
            text += "\(fixed(Double(counts.receiverSystemCalls) / received, 4)) system calls per packet"
        }
        return text
    }
}
