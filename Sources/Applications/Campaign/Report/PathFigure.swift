import Operation

/// The way of each receiver over time: a bar a receiver, and a mark for each fault.
struct PathFigure {
    /// Receivers that are drawn; with more, those that changed come first.
    static let mostRows = 100
    private static let (width, left, right, row) = (800.0, 150.0, 15.0, 20.0)

    let facts: CampaignFacts
    let measurement: CampaignMeasurement

    var svg: String {
        let all = measurement.receivers
        let sorted = all.enumerated().sorted { a, b in
            (a.element.spans.count < 3 ? 1 : 0, a.offset) < (b.element.spans.count < 3 ? 1 : 0, b.offset)
        }.map(\.element)
        let drawn = all.count > Self.mostRows ? Array(sorted.prefix(Self.mostRows)) : all
        let spans = drawn.flatMap(\.spans)
        let begin = min(spans.map(\.begin).min() ?? 0, 0)
        let end = max(spans.map(\.end).max() ?? 1, begin + 1)
        let x = { (seconds: Double) in
            Self.left + (min(max(seconds, begin), end) - begin) / (end - begin) * (Self.width - Self.left - Self.right)
        }
        let (top, bottom) = (44.0, 40.0)
        let height = top + Double(drawn.count) * Self.row + bottom
        var out = """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Int(Self.width)) \(Int(height))" role="img" \
            font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>

            """
        var place = 10.0
        for way in CampaignMeasurement.Span.Way.allCases where spans.contains(where: { $0.way == way }) {
            out += """
                <rect x="\(fixed(place, 1))" y="10" width="14" height="14" fill="\(way.color)" stroke="#95a5a6" stroke-width="0.5"/>
                <text x="\(fixed(place + 19, 1))" y="21">\(way.title)</text>

                """
            place += 38 + Double(way.title.count) * 6.6
        }
        for (index, receiver) in drawn.enumerated() {
            let y = top + Double(index) * Self.row
            let name = receiver.name.count > 20 ? "\(receiver.name.prefix(19))…" : receiver.name
            out += """
                <text x="\(fixed(Self.left - 8, 1))" y="\(fixed(y + 14, 1))" text-anchor="end">\(escaped(name))</text>

                """
            for span in receiver.spans {
                out += """
                    <rect x="\(fixed(x(span.begin), 1))" y="\(fixed(y + 3, 1))" width="\(fixed(max(x(span.end) - x(span.begin), 0.5), 1))" \
                    height="14" fill="\(span.way.color)"><title>\(escaped(receiver.name)): \(span.way.title), \
                    \(fixed(span.begin, 1)) to \(fixed(span.end, 1)) s</title></rect>

                    """
            }
        }
        let floor = height - bottom + 2
        for fault in facts.faults {
            let at = fixed(x(facts.seconds(fault.began)), 1)
            out += """
                <line x1="\(at)" y1="\(fixed(top - 4, 1))" x2="\(at)" y2="\(fixed(floor, 1))" stroke="#2c3e50" stroke-dasharray="3 3">\
                <title>\(escaped(fault.title))</title></line>

                """
        }
        let step = Chart.niceStep(end - begin, steps: 10)
        var tick = (begin / step).rounded(.up) * step
        while tick <= end {
            out += """
                <line x1="\(fixed(x(tick), 1))" y1="\(fixed(floor, 1))" x2="\(fixed(x(tick), 1))" y2="\(fixed(floor + 4, 1))" stroke="#333333"/>
                <text x="\(fixed(x(tick), 1))" y="\(fixed(floor + 17, 1))" text-anchor="middle">\(fixed(tick, step < 1 ? 1 : 0))</text>

                """
            tick += step
        }
        return out + """
            <text x="\(fixed((Self.left + Self.width) / 2, 1))" y="\(fixed(height - 6, 1))" text-anchor="middle">seconds since \
            the first item</text></svg>

            """
    }
}
