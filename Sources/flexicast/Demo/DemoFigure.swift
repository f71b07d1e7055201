// Figure 2 of the deployment: what the source has sent over time to those on the flow, beside what the same receivers take
// on connections.
import Operation

/// One moment of the figure, in UDP payload octets since the start.
struct FigureSample: Codable, Equatable, Sendable {
    /// Since the first item.
    var seconds: Double
    var flow: Int
    var repair: Int
    var unicast: Int
    var control: Int

    init(_ board: Scoreboard, at time: Duration) {
        seconds = Double(time.wholeNanoseconds) / 1e9
        flow = board.source.bytesFlow
        repair = board.source.bytesRepair
        unicast = board.source.bytesUnicast
        control = board.source.bytesControl
    }

    var total: Int { flow + repair + unicast + control }
}

/// The figure of a demo.
func demoFigure(_ outcome: DemoOutcome) -> Chart {
    let board = outcome.board
    let listeners = board.receivers.count { $0.mode != .unicast }
    let others = board.receivers.count - listeners
    let whole = outcome.samples.map { ($0, $0.total) }
    // Measured, or as many times what each of those cost that were on connections all along.
    var onUnicast: (name: String, points: [(FigureSample, Int)])?
    if let other = outcome.compared.first {
        onUnicast = ("measured", other.samples.map { ($0, $0.unicast + $0.repair) })
    } else if others > 0 {
        onUnicast = (
            "computed from the other \(others)", outcome.samples.map { ($0, $0.unicast * listeners / others) }
        )
    }
    var series: [(name: String, color: String, dash: String, points: [(FigureSample, Int)])] = []
    if listeners > 0 {
        if let onUnicast {
            series.append(("the same \(listeners) on unicast, \(onUnicast.name)", "#c0392b", "8 5", onUnicast.points))
        }
        series.append(
            (
                "flow with repair, for \(listeners) receivers", "#2980b9", "",
                outcome.samples.map { ($0, $0.flow + $0.repair) }
            ))
        series.append(("of it repair", "#27ae60", "", outcome.samples.map { ($0, $0.repair) }))
    }
    if others > 0 {
        series.append(
            ("\(others) receivers on unicast", "#e67e22", "", outcome.samples.map { ($0, $0.unicast) }))
    }
    series.append(("sent in all", "#2c3e50", "", whole))
    let largest = Double(series.flatMap { $0.points.map(\.1) }.max() ?? 0)
    let (unit, divisor) = largest >= 1e6 ? ("MB", 1e6) : ("kB", 1e3)
    let saving = outcome.measuredSaving.map { ($0, "measured") } ?? board.multicastSaving.map { ($0, "computed") }
    return Chart(
        title: "Bytes sent by the source",
        subtitle: saving.map {
            "The flow with repair: \(fixed($0.0, 2)) times less than its \(listeners) receivers on unicast (\($0.1))"
        } ?? "",
        xLabel: "time since the first item (s)", yLabel: "UDP payload sent (\(unit))",
        curves: series.map { one in
            Chart.Curve(
                name: one.name, color: one.color, dash: one.dash,
                points: one.points.map { ($0.0.seconds, Double($0.1) / divisor) })
        }, leastX: 1)
}
