import Operation

/// Text as XML and HTML have it.
func escaped(_ text: some StringProtocol) -> String {
    String(text).replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
        .replacing("\"", with: "&quot;")
}

/// The colours of the ways that items come by, everywhere the same.
extension CampaignMeasurement.Span.Way {
    var color: String {
        switch self {
        case .starting: "#bdc3c7"
        case .multicast: "#2980b9"
        case .amt: "#16a085"
        case .unicast: "#e67e22"
        case .fallback: "#c0392b"
        case .gone: "#ecf0f1"
        }
    }

    var title: String {
        switch self {
        case .starting: "starting"
        case .multicast: "flow, by the group"
        case .amt: "flow, through the relay"
        case .unicast: "connection"
        case .fallback: "fallen back to the connection"
        case .gone: "gone"
        }
    }
}

/// Figure 1: who was where, and how items came to it.
struct DeploymentFigure {
    /// Receivers of one way that are drawn one by one; more are told by their number.
    static let mostRows = 14
    private static let width = 800.0
    private static let row = 26.0

    private struct Group {
        var way: CampaignMeasurement.Span.Way
        var receivers: [CampaignMeasurement.Receiver]
        var rows: Int { min(receivers.count, DeploymentFigure.mostRows) }
    }

    let facts: CampaignFacts
    let measurement: CampaignMeasurement

    var svg: String {
        let groups = [
            Group(way: .multicast, receivers: measurement.receivers.filter { [.multicast, .auto].contains($0.path) }),
            Group(way: .amt, receivers: measurement.receivers.filter { $0.path == .amt }),
            Group(way: .unicast, receivers: measurement.receivers.filter { $0.path == .unicast }),
        ].filter { !$0.receivers.isEmpty }
        let gap = 24.0
        let rows = Double(groups.reduce(0) { $0 + $1.rows })
        let height = max(120, 40 + rows * Self.row + Double(max(groups.count - 1, 0)) * gap)
        var body = ""
        let sourceY = height / 2
        var top = (height - rows * Self.row - Double(max(groups.count - 1, 0)) * gap) / 2
        for group in groups {
            let middle = top + Double(group.rows) * Self.row / 2
            body += draw(group, top: top, middle: middle, sourceY: sourceY)
            top += Double(group.rows) * Self.row + gap
        }
        let host = facts.roles.first { $0.kind == .source }?.host ?? ""
        body += box(x: 10, y: sourceY - 30, width: 140, height: 60, lines: ["source", host], stroke: "#2c3e50")
        return """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Int(Self.width)) \(Int(height))" role="img" \
            font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>
            \(body)</svg>

            """
    }

    private func draw(_ group: Group, top: Double, middle: Double, sourceY: Double) -> String {
        let color = group.way.color
        var out = ""
        // Where the lines to the receivers begin.
        var fan = (x: 420.0, y: middle)
        switch group.way {
        case .multicast:
            out += line(150, sourceY, 220, middle, color) + line(380, middle, fan.x, middle, color)
            out += cloud(x: 220, y: middle - 28, width: 160, lines: ["multicast network", facts.group ?? ""])
        case .amt:
            out += line(150, sourceY, 170, middle, color)
            out += cloud(x: 170, y: middle - 28, width: 150, lines: ["multicast", facts.group ?? ""])
            let relay = facts.roles.first { $0.kind == .relay }
            out += box(
                x: 330, y: middle - 30, width: 130, height: 60, lines: ["relay (AMT)", relay?.host ?? ""], stroke: color
            )
            out += line(320, middle, 330, middle, color)
            fan.x = 460
        default:
            out +=
                line(150, sourceY, 220, middle, color, dash: "6 4")
                + line(220, middle, fan.x, middle, color, dash: "6 4")
            out += label(320, middle - 8, "a connection each", color)
        }
        // Who has trouble is drawn rather than who has none.
        let sorted = group.receivers.enumerated().sorted { a, b in
            (a.element.isComplete ? 1 : 0, a.offset) < (b.element.isComplete ? 1 : 0, b.offset)
        }.map(\.element)
        let drawn = group.receivers.count > group.rows ? Array(sorted.prefix(group.rows - 1)) : group.receivers
        for row in 0..<group.rows {
            let y = top + (Double(row) + 0.5) * Self.row
            let receiver = row < drawn.count ? drawn[row] : nil
            let dash = group.way == .unicast ? "6 4" : ""
            out += line(fan.x, fan.y, 540, y, color, dash: dash)
            let text: String
            var stroke = color
            if let receiver {
                let note =
                    receiver.isComplete
                    ? "\(receiver.items) items"
                    : receiver.isEndedOnPurpose
                        ? "ended on purpose" : receiver.failure == nil ? "lacks \(receiver.missing)" : "failed"
                if !receiver.isComplete { stroke = "#c0392b" }
                text = "\(receiver.name): \(note)"
            } else {
                text = "and \(group.receivers.count - drawn.count) more"
            }
            out += box(x: 540, y: y - 11, width: 250, height: 22, lines: [text], stroke: stroke)
        }
        return out
    }

    private func line(
        _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ color: String, dash: String = ""
    ) -> String {
        let dash = dash.isEmpty ? "" : " stroke-dasharray=\"\(dash)\""
        return """
            <line x1="\(fixed(x1, 1))" y1="\(fixed(y1, 1))" x2="\(fixed(x2, 1))" y2="\(fixed(y2, 1))" stroke="\(color)" \
            stroke-width="1.5"\(dash)/>

            """
    }

    private func label(_ x: Double, _ y: Double, _ text: String, _ color: String) -> String {
        "<text x=\"\(fixed(x, 1))\" y=\"\(fixed(y, 1))\" text-anchor=\"middle\" fill=\"\(color)\">\(escaped(text))</text>\n"
    }

    private func box(
        x: Double, y: Double, width: Double, height: Double, lines: [String], stroke: String, radius: Double = 4
    ) -> String {
        var out = """
            <rect x="\(fixed(x, 1))" y="\(fixed(y, 1))" width="\(fixed(width, 1))" height="\(fixed(height, 1))" \
            rx="\(fixed(radius, 0))" fill="white" stroke="\(stroke)" stroke-width="1.5"/>

            """
        let lines = lines.filter { !$0.isEmpty }
        for (index, text) in lines.enumerated() {
            let offset = (Double(index) - Double(lines.count - 1) / 2) * 17 + 4.5
            // A name that is too long for its box is cut off.
            let most = Int(width / 7.4)
            let shown = text.count > most ? "\(text.prefix(most - 1))…" : text
            let weight = index == 0 && lines.count > 1 ? " font-weight=\"bold\"" : ""
            out += """
                <text x="\(fixed(x + width / 2, 1))" y="\(fixed(y + height / 2 + offset, 1))" text-anchor="middle"\(weight)>\
                \(escaped(shown))</text>

                """
        }
        return out
    }

    private func cloud(x: Double, y: Double, width: Double, lines: [String]) -> String {
        box(x: x, y: y, width: width, height: 56, lines: lines, stroke: "#7f8c8d", radius: 28)
    }
}
