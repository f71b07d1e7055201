import Testing
import Wire

@testable import Operation

/// What is written, octet for octet; that Prometheus reads it is tested with its own library in DeploymentTests.
@Suite struct MetricsTextTests {
    private var sample: MetricsText {
        var text = MetricsText()
        text.add("a_sent_bytes_total", "Octets.", by: "kind", [("one", 1), ("t\"w\\o\n", 2)])
        text.add("a_seats", .gauge, "Seats.", 3)
        text.add("a_none", .gauge, "Nobody.", [(labels: [(name: String, value: String)], value: Int)]())
        return text
    }

    @Test func prometheusText() {
        #expect(
            sample.text(.prometheus) == #"""
                # HELP a_sent_bytes_total Octets.
                # TYPE a_sent_bytes_total counter
                a_sent_bytes_total{kind="one"} 1
                a_sent_bytes_total{kind="t\"w\\o\n"} 2
                # HELP a_seats Seats.
                # TYPE a_seats gauge
                a_seats 3

                """#)
    }

    /// OpenMetrics 1.0: a counter's name is without `_total`, units are named, and there is an end.
    @Test func openMetricsText() {
        #expect(
            sample.text(.openMetrics) == #"""
                # HELP a_sent_bytes Octets.
                # TYPE a_sent_bytes counter
                # UNIT a_sent_bytes bytes
                a_sent_bytes_total{kind="one"} 1
                a_sent_bytes_total{kind="t\"w\\o\n"} 2
                # HELP a_seats Seats.
                # TYPE a_seats gauge
                a_seats 3
                # EOF

                """#)
    }

    @Test(arguments: [
        ("", false), ("*/*", false), ("text/plain;version=0.0.4", false), ("application/openmetrics-text", true),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", true),
        ("text/plain, Application/OpenMetrics-Text ; version=1.0.0", true),
        ("application/openmetrics-text; q=0", false),
        ("application/openmetrics-textual", false), (";;,,=", false),
    ])
    func theFormatIsWhatIsAskedFor(accept: String, isOpen: Bool) {
        #expect(MetricsText.Format(accept: accept) == (isOpen ? .openMetrics : .prometheus))
    }

    /// Percentiles against those of the sorted values: within the bucket that the value is in.
    @Test(arguments: 0..<20)
    func percentilesAreThoseOfTheValues(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        var histogram = Histogram()
        var values: [Double] = []
        for _ in 0..<(1 + Int(random.next() % 300)) {
            // From 10 microseconds to 30 seconds.
            var value = 0.00001
            for _ in 0..<Int(random.next() % 20) { value *= 2.1 }
            values.append(value)
            histogram.add(Duration.seconds(value))
        }
        values.sort()
        for percent in [1.0, 50, 90, 99, 100] {
            let truth = values[max(0, Int((Double(values.count) * percent / 100).rounded(.up)) - 1)]
            let found = try #require(histogram.percentile(percent))
            let bucket = Histogram.bounds.firstIndex { truth <= $0 } ?? Histogram.bounds.count
            let lower = bucket == 0 ? 0 : Histogram.bounds[bucket - 1]
            let upper = bucket < Histogram.bounds.count ? Histogram.bounds[bucket] : Histogram.bounds[bucket - 1]
            #expect(found >= lower && found <= upper + 1e-9, "\(percent) %: \(truth), not \(found)")
        }
        #expect(histogram.count == UInt64(values.count))
        #expect(abs(histogram.sum - values.reduce(0, +)) < 1e-6 * histogram.sum)
    }

    @Test func differencesAndExtremes() {
        var histogram = Histogram()
        #expect(histogram.percentile(50) == nil)
        histogram.add(Duration.seconds(-1))
        let before = histogram
        histogram.add(Duration.seconds(1 << 40))
        #expect(histogram.since(before).count == 1 && histogram.since(histogram).percentile(50) == nil)
        #expect(histogram.since(before).percentile(50) == 60)
        #expect(before.sum == 0 && Histogram.bounds == Histogram.bounds.sorted())
    }
}
