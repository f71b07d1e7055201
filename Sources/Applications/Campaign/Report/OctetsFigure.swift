import Operation

extension CampaignMeasurement {
    /// Figure 2: octets at the source over time, and what the same receivers would have cost on connections.
    var octetsFigure: Chart {
        let largest = Double(
            max(
                samples.map { $0.flowOctets + $0.repairOctets + $0.unicastOctets + $0.controlOctets }.max() ?? 0,
                listenersOnUnicastOctets))
        let (unit, divisor) = largest >= 1e6 ? ("MB", 1e6) : ("kB", 1e3)
        // A moment before the first item is the beginning.
        let shown = samples.filter { $0.seconds >= -1.5 }
        let curve = { (name: String, color: String, dash: String, value: (Sample) -> Double) in
            Chart.Curve(
                name: name, color: color, dash: dash, points: shown.map { (max($0.seconds, 0), value($0) / divisor) })
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
        return Chart(
            title: "Octets sent by the source", xLabel: "seconds since the first item",
            yLabel: "UDP payload sent (\(unit))", curves: curves, leastX: 1)
    }
}
