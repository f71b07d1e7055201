import Objects
import Wire

/// What a receiver that was asked to tells the source of its reception.
struct ReceptionReport {
    /// From one report to the next.
    static let interval = Duration.seconds(10)
    /// Latencies that one report is made of; of more, the first.
    static let mostLatencies = 10_000

    private var latencies: [Duration] = []

    /// An item has come after so long.
    mutating func add(_ latency: Duration) { if latencies.count < Self.mostLatencies { latencies.append(latency) } }

    /// The report of now. The next one has latencies of its own.
    /// - Parameter way: by which items come now.
    mutating func take(way: ReceiverWay, items: Int, lost: Int, fallbacks: Int, uncertainty: Duration?) -> ReportMessage
    {
        defer { latencies = [] }
        latencies.sort()
        let rank = { (latencies: [Duration], percent: Int) -> UInt64 in
            guard !latencies.isEmpty else { return 0 }
            // The nearest rank: the least that so many per cent do not exceed.
            return latencies[(latencies.count * percent + 99) / 100 - 1].wholeMicroseconds
        }
        var report = ReportMessage()
        report.way =
            switch way {
            case .flow: .group
            case .amt: .relay
            case .unicast, .none: .connection
            }
        report.objects = UInt64(items)
        report.packetsLost = UInt64(lost)
        report.fallbacks = UInt64(fallbacks)
        report.count = UInt64(latencies.count)
        report.median = rank(latencies, 50)
        report.percent95 = rank(latencies, 95)
        report.uncertainty = uncertainty?.wholeMicroseconds ?? 0
        return report
    }
}

extension Duration {
    fileprivate var wholeMicroseconds: UInt64 { UInt64(max(0, self / .microseconds(1))) }
}
