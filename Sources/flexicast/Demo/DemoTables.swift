// The demo's tables as text. Pure functions of the scoreboard.
import FoundationEssentials

/// Cells in columns; numbers stand right, everything else left.
func formatTable(_ header: [String], _ rows: [[String]]) -> [String] {
    let all = [header] + rows
    let widths = header.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
    let isNumeric = header.indices.map { column in rows.allSatisfy { $0[column].allSatisfy(\.isNumber) } }
    return all.map { row in
        var line = ""
        for (column, cell) in row.enumerated() {
            let padding = String(repeating: " ", count: widths[column] - cell.count)
            line += (column > 0 ? "  " : "") + (isNumeric[column] ? padding + cell : cell + padding)
        }
        while line.last == " " { line.removeLast() }
        return line
    }
}

/// `1 234 567`.
func grouped(_ number: Int) -> String {
    var text = ""
    for (index, digit) in String(number).reversed().enumerated() {
        if index > 0, index % 3 == 0, digit != "-" { text.append(" ") }
        text.append(digit)
    }
    return String(text.reversed())
}

extension ReceiverScore {
    /// What the demo does to this receiver.
    fileprivate var note: String {
        if isCut { return "multicast is cut" }
        return lossPercent > 0 ? "loses \(shortPercent(lossPercent)) % of the flow" : ""
    }
}

func shortPercent(_ percent: Double) -> String {
    percent == percent.rounded() ? String(Int(percent)) : String(percent)
}

extension Scoreboard {
    /// The view while the demo runs.
    var liveTable: [String] {
        let rows = receivers.map { receiver in
            [
                receiver.name, receiver.state.rawValue, "\(receiver.items)", "\(receiver.viaFlow)",
                "\(receiver.viaUnicast)", "\(receiver.viaMixed)", "\(behind(receiver))", receiver.note,
            ]
        }
        return formatTable(["receiver", "on", "items", "via flow", "unicast", "mixed", "missing", ""], rows)
    }

    /// One line about the source while the demo runs.
    var sourceLine: String {
        """
        source sent: flow \(grouped(source.bytesFlow)) B, repair \(grouped(source.bytesRepair)) B, \
        unicast \(grouped(source.bytesUnicast)) B, control \(grouped(source.bytesControl)) B
        """
    }

    /// The last word.
    var finalTable: [String] {
        let rows = receivers.map { receiver in
            [
                receiver.name, receiver.mode.rawValue, "\(receiver.items)", "\(receiver.viaFlow)",
                "\(receiver.viaUnicast)", "\(receiver.viaMixed)", "\(receiver.missing)", "\(receiver.duplicates)",
                "\(receiver.corrupt)", "\(receiver.fallbacks)", "\(receiver.returns)",
            ]
        }
        var lines = formatTable(
            [
                "receiver", "mode", "items", "via flow", "unicast", "mixed", "missing", "duplicates", "corrupt",
                "fallbacks", "returns",
            ], rows)
        lines += [
            "",
            """
            source sent \(grouped(source.total)) B; the \(source.sent.count) items\
            \(source.bytesOfFeeds > 0 ? ", the whole feed with each," : "") have \(grouped(source.bytesOfDocuments)) B
            """,
        ]
        let parts = [
            ("on the flow", source.bytesFlow, "once for everyone who hears it, keep-alive included"),
            ("in repair", source.bytesRepair, "what was lost on the flow"),
            ("in unicast", source.bytesUnicast, "items for those who do not hear it"),
            ("control", source.bytesControl, "handshakes, acknowledgements, announcements, keys"),
        ]
        let width = parts.map { grouped($0.1).count }.max() ?? 0
        for (name, bytes, meaning) in parts {
            let number = grouped(bytes)
            lines.append(
                "  \(name)" + String(repeating: " ", count: 12 - name.count + width - number.count)
                    + "\(number) B  \(meaning)")
        }
        let factor = (saving * 100).rounded() / 100
        lines.append(
            """
            unicast alone: at least \(grouped(unicastEquivalent)) B, the items to \(receivers.count) receivers without \
            any headers; that is \(factor) times as much
            """)
        if let multicastSaving, let unicastCost {
            let listeners = receivers.count { $0.mode != .unicast }
            lines += [
                """
                the multicast part: \(listeners) receivers at \(grouped(Int(unicastCost))) B each, as those on unicast cost, against \
                \(grouped(source.bytesFlow + source.bytesRepair)) B of flow and repair
                """,
                "saving on the multicast part: \(fixed(multicastSaving, 2)) times less",
            ]
        }
        if let packetsRouted {
            lines.append("the router before the relay forwarded \(grouped(packetsRouted)) packets of the flow")
        }
        return lines
    }
}
