import Operation

extension CampaignMeasurement {
    /// Figure 2: octets at the source over time, and what the same receivers would have cost on connections.
    /// - Parameter end: when the sending ended, in seconds; what comes later is of no interest.
    func octetsFigure(end: Double) -> Chart {
        let largest = Double(
            max(
                samples.map { $0.flowOctets + $0.repairOctets + $0.unicastOctets + $0.controlOctets }.max() ?? 0,
                listenersOnUnicastOctets))
        let (unit, divisor) = largest >= 1e6 ? ("MB", 1e6) : ("kB", 1e3)
        // What there was before the first item, handshakes for the most part, is where it begins.
        var shown = samples.filter { $0.seconds >= 0 && $0.seconds <= end + 2 }
        if var before = samples.last(where: { $0.seconds < 0 }) ?? shown.first.map({ _ in Sample() }) {
            before.seconds = 0
            shown.insert(before, at: 0)
        }
        let curve = { (name: String, color: String, dash: String, value: (Sample) -> Double) in
            Chart.Curve(name: name, color: color, dash: dash, points: shown.map { ($0.seconds, value($0) / divisor) })
        }
        let factor = unicastFactor * Double(listeners)
        let computed = isFactorMeasured ? "computed from those who were" : "computed, without any headers"
        let ratio = saving.map { ", \(fixed($0, 2)) times as much" } ?? ""
        var curves = [
            curve("the same \(listeners) on unicast (\(computed))\(ratio)", "#c0392b", "8 5") {
                Double($0.documentOctets) * factor
            },
            curve("flow with repair, to \(listeners) receivers", "#2980b9", "") {
                Double($0.flowOctets + $0.repairOctets)
            },
            curve("of it repair", "#27ae60", "") { Double($0.repairOctets) },
            curve("connections: items, control", "#e67e22", "") { Double($0.unicastOctets + $0.controlOctets) },
        ]
        if listeners == 0 { curves.removeFirst(3) }
        var chart = Chart(
            title: "Octets sent by the source", xLabel: "seconds since the first item",
            yLabel: "UDP payload sent (\(unit))", curves: curves, leastX: 1)
        chart.hasClearLegend = true
        return chart
    }
}
