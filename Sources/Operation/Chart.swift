import Glibc

/// Curves over one axis, as an SVG document.
package struct Chart {
    /// A line of the chart.
    package struct Curve {
        package var name: String
        package var color: String
        /// SVG's stroke-dasharray; empty is a solid line.
        package var dash = ""
        package var points: [(x: Double, y: Double)]

        package init(name: String, color: String, dash: String = "", points: [(x: Double, y: Double)]) {
            self.name = name
            self.color = color
            self.dash = dash
            self.points = points
        }
    }

    package var title: String
    /// What is to be seen, in one line.
    package var subtitle: String
    package var xLabel: String
    package var yLabel: String
    /// From the top of the legend to its bottom.
    package var curves: [Curve]
    /// Where x ends at the least.
    package var leastX = 0.0
    /// Powers of ten are equally far from each other, from the smallest x on; each point has a mark.
    package var isLogarithmic = false
    /// Whether no curve passes behind the legend.
    package var hasClearLegend = false

    package init(
        title: String, subtitle: String = "", xLabel: String, yLabel: String, curves: [Curve], leastX: Double = 0,
        isLogarithmic: Bool = false
    ) {
        self.title = title
        self.subtitle = subtitle
        self.xLabel = xLabel
        self.yLabel = yLabel
        self.curves = curves
        self.leastX = leastX
        self.isLogarithmic = isLogarithmic
    }

    private static let (width, height) = (800.0, 500.0)
    private static let (left, right, top, bottom) = (80.0, 20.0, 50.0, 60.0)

    /// A scale whose steps are 1, 2 or 5 times a power of ten, at most `steps` of them up to `maximum`.
    package static func niceStep(_ maximum: Double, steps: Int) -> Double {
        guard maximum > 0 else { return 1 }
        let rough = maximum / Double(steps)
        let power = pow(10, floor(log10(rough)))
        return ([1, 2, 5, 10].first { $0 * power >= rough } ?? 10) * power
    }

    private static func place(_ number: Double) -> String { fixed(number, 1) }

    private static func text(_ number: Double) -> String {
        fixed(number, number == number.rounded() ? 0 : number < 0.1 ? 2 : 1)
    }

    /// Values on the x axis that are written out.
    private var ticks: [Double] {
        guard isLogarithmic else {
            let step = Self.niceStep(maxX, steps: 10)
            return (0...Int(maxX / step)).map { Double($0) * step }
        }
        return Set(curves.flatMap { $0.points.map(\.x) }).sorted()
    }

    private var maxX: Double { max(curves.flatMap { $0.points.map(\.x) }.max() ?? 1, leastX) }
    private var minX: Double { max(curves.flatMap { $0.points.map(\.x) }.min() ?? 1, 1e-9) }

    private func x(_ value: Double) -> Double {
        let span = Self.width - Self.left - Self.right
        guard isLogarithmic else { return Self.left + value / maxX * span }
        // A little room on both sides, for the marks.
        let range = max(log10(maxX / minX), 1e-9)
        return Self.left + 20 + log10(max(value, minX) / minX) / range * (span - 40)
    }

    package var svg: String {
        let (width, height, left, right, top, bottom) = (
            Self.width, Self.height, Self.left, Self.right, Self.top, Self.bottom
        )
        let (place, text) = (Self.place, Self.text)
        let largest = curves.flatMap { $0.points.map(\.y) }.max() ?? 0
        let stepY = Self.niceStep(largest, steps: 8)
        // Room for the legend above all points: curves of a sweep may begin high. Others begin at nothing.
        let legend = isLogarithmic || hasClearLegend ? Double(curves.count) * 20 / (height - top - bottom) : 0
        let topY = max(stepY, (largest / (1 - legend) / stepY).rounded(.up) * stepY)
        let y = { (value: Double) in height - bottom - value / topY * (height - top - bottom) }
        var svg = """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Int(width)) \(Int(height))" width="\(Int(width))" \
            height="\(Int(height))" font-family="sans-serif" font-size="13">
            <rect width="100%" height="100%" fill="white"/>
            <text x="\(place(width / 2))" y="22" text-anchor="middle" font-size="16">\(title)</text>
            <text x="\(place(width / 2))" y="42" text-anchor="middle">\(subtitle)</text>

            """
        for index in 0...Int((topY / stepY).rounded()) {
            let value = Double(index) * stepY
            svg += """
                <line x1="\(place(left))" y1="\(place(y(value)))" x2="\(place(width - right))" y2="\(place(y(value)))" stroke="#dddddd"/>
                <text x="\(place(left - 8))" y="\(place(y(value) + 4))" text-anchor="end">\(text(value))</text>

                """
        }
        for value in ticks {
            svg += """
                <line x1="\(place(x(value)))" y1="\(place(height - bottom))" x2="\(place(x(value)))" y2="\(place(height - bottom + 5))" stroke="#333333"/>
                <text x="\(place(x(value)))" y="\(place(height - bottom + 20))" text-anchor="middle">\(text(value))</text>

                """
        }
        svg += """
            <path d="M \(place(left)) \(place(top)) V \(place(height - bottom)) H \(place(width - right))" fill="none" stroke="#333333"/>
            <text x="\(place((left + width - right) / 2))" y="\(place(height - 16))" text-anchor="middle">\(xLabel)</text>
            <text transform="translate(22 \(place((top + height - bottom) / 2))) rotate(-90)" text-anchor="middle">\(yLabel)</text>

            """
        for (index, curve) in curves.enumerated() {
            let points = curve.points.map { "\(place(x($0.x))),\(place(y($0.y)))" }
            let dash = curve.dash.isEmpty ? "" : " stroke-dasharray=\"\(curve.dash)\""
            let line = top + 14 + Double(index) * 20
            svg += """
                <polyline points="\(points.joined(separator: " "))" fill="none" stroke="\(curve.color)" stroke-width="2"\(dash)/>
                <line x1="\(place(left + 14))" y1="\(place(line - 4))" x2="\(place(left + 44))" y2="\(place(line - 4))" stroke="\(curve.color)" stroke-width="2"\(dash)/>
                <text x="\(place(left + 52))" y="\(place(line))">\(curve.name)</text>

                """
            guard isLogarithmic else { continue }
            for point in curve.points {
                svg += """
                    <circle cx="\(place(x(point.x)))" cy="\(place(y(point.y)))" r="4" fill="\(curve.color)"/>

                    """
            }
        }
        return svg + "</svg>\n"
    }
}
