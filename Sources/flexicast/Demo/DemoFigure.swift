// Figure 2 of the deployment: what the source has sent over time, beside what unicast alone would have cost.

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

/// The figure of a demo.
func demoFigure(_ samples: [FigureSample]) -> Chart {
    let largest = Double(samples.map { max($0.unicastAlone, $0.total) }.max() ?? 0)
    let (unit, divisor) = largest >= 1e6 ? ("MB", 1e6) : ("kB", 1e3)
    return Chart(
        title: "Bytes sent by the source", xLabel: "time since the start (s)", yLabel: "UDP payload sent (\(unit))",
        curves: curves.map { curve in
            Chart.Curve(
                name: curve.name, color: curve.color, dash: curve.dash,
                points: samples.map { ($0.seconds, Double(curve.value($0)) / divisor) })
        }, leastX: 1)
}
