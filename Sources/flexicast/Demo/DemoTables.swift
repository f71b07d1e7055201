// The demo's tables as text. Pure functions of the scoreboard.
import FoundationEssentials
import Operation

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
        if isCut { return "multicast cut" }
        return lossPercent > 0 ? "loses \(shortPercent(lossPercent)) %" : ""
    }
}

/// `text` in lines of at most `width` characters, all but the first indented.
func wrapped(_ text: String, width: Int = 80) -> [String] {
    var lines: [String] = []
    var line = ""
    for word in text.split(separator: " ") {
        if !line.isEmpty, line.count + 1 + word.count > width {
            lines.append(line)
            line = "  "
        } else if !line.isEmpty, line != "  " {
            line += " "
        }
        line += word
    }
    return lines + [line]
}

func shortPercent(_ percent: Double) -> String {
    percent == percent.rounded() ? String(Int(percent)) : String(percent)
}

extension Scoreboard {
    /// The view while the demo runs, in as many lines at most. Those in trouble are shown first where not all
    /// find room, and what happened last where there is some left.
    func view(heading: String, note: String = "", recent: [String], lines: Int) -> [String] {
        let above = note.isEmpty ? [heading, ""] : [heading, note, ""]
        let below = ["", sourceLine]
        let room = max(1, lines - above.count - below.count - 1)
        // A few lines of what happened last, unless all receivers find room beside more of them.
        let table = liveTable(rows: room - min(recent.count + 1, max(4, room - receivers.count)))
        let left = room + 1 - table.count - 1
        let news = left > 0 && !recent.isEmpty ? [""] + recent.suffix(left) : []
        return Array((above + table + below + news).prefix(max(1, lines)))
    }

    private func isInTrouble(_ receiver: ReceiverScore) -> Bool {
        receiver.isCut || receiver.state == .fallenBack || behind(receiver) > 1
    }

    /// As many rows at most; the last says what the others do that are not shown.
    private func liveTable(rows most: Int) -> [String] {
        var shown = receivers
        var rest: [String] = []
        if receivers.count > most {
            let ordered = receivers.filter(isInTrouble) + receivers.filter { !isInTrouble($0) }
            shown = Array(ordered.prefix(max(0, most - 1)))
            let others = ordered.dropFirst(shown.count)
            let states = Dictionary(grouping: others, by: \.state.rawValue)
                .sorted { $0.key < $1.key }
                .map { "\($0.value.count) \($0.key)" }
            let missing = others.reduce(0) { $0 + behind($1) }
            rest = ["and \(others.count) more: \(states.joined(separator: ", ")), \(missing) items missing"]
        }
        let rows = shown.map { receiver in
            [
                receiver.name, receiver.state.rawValue, "\(receiver.items)", "\(receiver.viaFlow)",
                "\(receiver.viaUnicast)", "\(receiver.viaMixed)", "\(behind(receiver))", receiver.note,
            ]
        }
        return formatTable(["receiver", "on", "items", "via flow", "unicast", "mixed", "missing", ""], rows) + rest
    }

    /// One line about the source while the demo runs.
    var sourceLine: String {
        let kilo = { (octets: Int) in grouped((octets + 500) / 1000) }
        return """
            source sent, in kB: flow \(kilo(source.bytesFlow)), repair \(kilo(source.bytesRepair)), \
            unicast \(kilo(source.bytesUnicast)), control \(kilo(source.bytesControl))
            """
    }

    /// The last word.
    var finalTable: [String] {
        let rows = receivers.map { receiver in
            [
                receiver.name, "\(receiver.items)", "\(receiver.viaFlow)",
                "\(receiver.viaUnicast)", "\(receiver.viaMixed)", "\(receiver.missing)", "\(receiver.duplicates)",
                "\(receiver.corrupt)", "\(receiver.fallbacks)", "\(receiver.returns)",
            ]
        }
        var lines = formatTable(
            [
                "receiver", "items", "flow", "unicast", "mixed", "missing", "twice", "wrong", "falls", "returns",
            ], rows)
        lines += [""]
        lines += wrapped(
            """
            source sent \(grouped(source.total)) B; the \(source.sent.count) items\
            \(source.bytesOfFeeds > 0 ? ", the whole feed with each," : "") have \(grouped(source.bytesOfDocuments)) B
            """)
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
        lines += wrapped(
            """
            unicast alone: at least \(grouped(unicastEquivalent)) B, the items to \(receivers.count) receivers without \
            any headers; that is \(factor) times as much
            """)
        if let multicastSaving, let unicastCost {
            let listeners = receivers.count { $0.mode != .unicast }
            lines += wrapped(
                """
                the multicast part: \(listeners) receivers at \(grouped(Int(unicastCost))) B each, as those on unicast cost, against \
                \(grouped(source.onFlow)) B of flow and repair
                """)
            lines += [
                "saving on the multicast part: \(fixed(multicastSaving, 2)) times less"
            ]
        }
        if let packetsRouted {
            lines.append("the router before the relay forwarded \(grouped(packetsRouted)) packets of the flow")
        }
        return lines
    }
}
