// Figure 2 of the deployment: what the source has sent over time, beside what unicast alone would have cost.
import Foundation

/// One moment of the figure, in UDP payload octets since the start.
struct FigureSample: Equatable, Sendable {
    var seconds: Double
    /// On the flow, repairs included.
    var flow: Int
    var repair: Int
    /// Items on connections, and everything that steers them.
    var unicast: Int
    var total: Int
    /// The items to every receiver on a connection of its own.
    var unicastAlone: Int

    init(_ board: Scoreboard, at time: Duration) {
        seconds = Double(time.wholeNanoseconds) / 1e9
        flow = board.source.bytesFlow
        repair = board.source.bytesRepair
        unicast = board.source.bytesUnicast + board.source.bytesControl
        total = board.source.total
        unicastAlone = board.unicastEquivalent
    }
}

/// The curves, from the top of the legend to its bottom.
private let curves: [(name: String, color: String, dash: String, value: @Sendable (FigureSample) -> Int)] = [
    ("unicast alone (items to every receiver)", "#c0392b", "8 5", { $0.unicastAlone }),
    ("sent in all", "#2c3e50", "", { $0.total }),
    ("unicast connections", "#e67e22", "", { $0.unicast }),
    ("multicast flow", "#2980b9", "", { $0.flow }),
    ("repair", "#27ae60", "", { $0.repair }),
]

/// A scale whose steps are 1, 2 or 5 times a power of ten, at most `steps` of them up to `maximum`.
func niceStep(_ maximum: Double, steps: Int) -> Double {
    guard maximum > 0 else { return 1 }
    let rough = maximum / Double(steps)
    let power = pow(10, floor(log10(rough)))
    return ([1, 2, 5, 10].first { $0 * power >= rough } ?? 10) * power
}

/// The figure as an SVG document.
func figureSVG(_ samples: [FigureSample]) -> String {
    let (width, height) = (800.0, 500.0)
    let (left, right, top, bottom) = (80.0, 20.0, 50.0, 60.0)
    let largest = Double(samples.map { max($0.unicastAlone, $0.total) }.max() ?? 0)
    let (unit, divisor) = largest >= 1e6 ? ("MB", 1e6) : ("kB", 1e3)
    let stepY = niceStep(largest / divisor, steps: 8)
    let topY = max(stepY, (largest / divisor / stepY).rounded(.up) * stepY)
    let duration = max(samples.last?.seconds ?? 1, 1)
    let stepX = niceStep(duration, steps: 10)
    let x = { (seconds: Double) in left + seconds / duration * (width - left - right) }
    let y = { (value: Double) in height - bottom - value / topY * (height - top - bottom) }
    let text = { (number: Double) in String(format: number == number.rounded() ? "%.0f" : "%.1f", number) }
    let place = { (number: Double) in String(format: "%.1f", number) }

    var svg = """
        <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Int(width)) \(Int(height))" width="\(Int(width))" \
        height="\(Int(height))" font-family="sans-serif" font-size="13">
        <rect width="100%" height="100%" fill="white"/>
        <text x="\(place(width / 2))" y="26" text-anchor="middle" font-size="16">Bytes sent by the source</text>

        """
    for index in 0...Int((topY / stepY).rounded()) {
        let value = Double(index) * stepY
        svg += """
            <line x1="\(place(left))" y1="\(place(y(value)))" x2="\(place(width - right))" y2="\(place(y(value)))" stroke="#dddddd"/>
            <text x="\(place(left - 8))" y="\(place(y(value) + 4))" text-anchor="end">\(text(value))</text>

            """
    }
    for index in 0...Int(duration / stepX) {
        let value = Double(index) * stepX
        svg += """
            <line x1="\(place(x(value)))" y1="\(place(height - bottom))" x2="\(place(x(value)))" y2="\(place(height - bottom + 5))" stroke="#333333"/>
            <text x="\(place(x(value)))" y="\(place(height - bottom + 20))" text-anchor="middle">\(text(value))</text>

            """
    }
    svg += """
        <path d="M \(place(left)) \(place(top)) V \(place(height - bottom)) H \(place(width - right))" fill="none" stroke="#333333"/>
        <text x="\(place((left + width - right) / 2))" y="\(place(height - 16))" text-anchor="middle">time since the start (s)</text>
        <text transform="translate(22 \(place((top + height - bottom) / 2))) rotate(-90)" text-anchor="middle">UDP payload sent (\(unit))</text>

        """
    for (index, curve) in curves.enumerated() {
        let points = samples.map { "\(place(x($0.seconds))),\(place(y(Double(curve.value($0)) / divisor)))" }
        let dash = curve.dash.isEmpty ? "" : " stroke-dasharray=\"\(curve.dash)\""
        let line = top + 14 + Double(index) * 20
        svg += """
            <polyline points="\(points.joined(separator: " "))" fill="none" stroke="\(curve.color)" stroke-width="2"\(dash)/>
            <line x1="\(place(left + 14))" y1="\(place(line - 4))" x2="\(place(left + 44))" y2="\(place(line - 4))" stroke="\(curve.color)" stroke-width="2"\(dash)/>
            <text x="\(place(left + 52))" y="\(place(line))">\(curve.name)</text>

            """
    }
    return svg + "</svg>\n"
}

/// Writes the figure beside `path`, whose ending does not matter, as SVG and, by rsvg-convert, as PNG.
/// - Returns: the files written.
/// - Throws: a problem when a file cannot be written, or the converter is missing; the SVG is there by then.
func writeFigure(_ samples: [FigureSample], to path: String) throws -> [String] {
    let base = URL(fileURLWithPath: path)
    let stem = ["svg", "png"].contains(base.pathExtension) ? base.deletingPathExtension() : base
    let svg = stem.appendingPathExtension("svg")
    let png = stem.appendingPathExtension("png")
    do { try Data(figureSVG(samples).utf8).write(to: svg, options: .atomic) } catch {
        throw DemoProblem("cannot write \(svg.path): \(error.localizedDescription)")
    }
    let converter = ["/usr/bin/rsvg-convert", "/usr/local/bin/rsvg-convert"]
        .first(where: FileManager.default.isExecutableFile(atPath:))
    guard let converter else {
        throw DemoProblem(
            "\(svg.path) is written, the PNG is not: rsvg-convert is missing; apt-get install librsvg2-bin")
    }
    try flexicast.run([converter, "--zoom", "2", "--output", png.path, svg.path])
    return [svg.path, png.path]
}
