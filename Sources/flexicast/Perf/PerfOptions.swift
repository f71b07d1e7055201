import ArgumentParser
import Cryptography
import Measurement
import Operation
import Reactor
import Transport
import Wire

/// What every measurement can be told.
struct PerfOptions: ParsableArguments {
    @Option(help: ArgumentHelp("How long (default: 10s).", valueName: "duration"), transform: parseDuration)
    var duration: Duration = .seconds(10)

    @Option(
        help: ArgumentHelp("Time between two lines (default: 1s).", valueName: "duration"), transform: parseDuration)
    var interval: Duration = .seconds(1)

    @Option(
        help: ArgumentHelp(
            "Exit with status 2 when the summary is below this: packets per second, handshakes per second for handshake.",
            valueName: "rate"),
        transform: parseCount)
    var least: Double?

    @Option(
        help: ArgumentHelp("Stay on this processor, counted from 0.", valueName: "n"),
        transform: parseInteger(in: 0...1023, "a processor's number"))
    var cpu: Int?

    @Option(help: ArgumentHelp("Input/output backend: auto, io_uring or epoll.", valueName: "backend"))
    var io: IOBackendChoice = .auto

    @Flag(help: "Print one JSON object per line on standard output.")
    var json = false

    /// Standard output for lines; goes to the asked processor first.
    func begin() throws -> EventOutput {
        if let cpu, !Meters.pin(to: cpu) {
            throw ValidationError("--cpu \(cpu): there is no such processor, or this process may not use it")
        }
        Interruption.watch()
        return EventOutput(style: json ? .json : .text)
    }

    /// Of the machine that measures.
    var machine: [(String, PerfLine.Value)] {
        [("kernel", .text(Meters.kernel)), ("cpu", .text(Meters.processor))]
    }

    /// Ends with status 2 when `rate` is below what was asked.
    func judge(_ rate: Double) throws {
        if let least, rate < least { throw belowLimit }
    }

    /// What was asked has not been reached.
    private var belowLimit: ExitCode { ExitCode(2) }

    /// How long `run` runs until it is looked whether the user has had enough.
    private static var slice: Duration { .milliseconds(100) }

    /// Takes readings of `counts` while `run` runs, until `end`, `isDone` or an interruption, a line for each interval: the
    /// difference of the last and the first.
    func measure(
        until end: Instant, or isDone: () -> Bool = { false }, _ counts: () -> EndCounts,
        _ report: (EndCounts, Int64) -> Void, _ run: (_ deadline: Instant) throws -> Void
    ) rethrows -> EndCounts {
        let start = counts()
        var last = start
        func isOver() -> Bool { isDone() || Interruption.hasCome }
        while Reactor.clock() < end, !isOver() {
            let line = min(Reactor.clock() + interval, end)
            while Reactor.clock() < line, !isOver() { try run(min(Reactor.clock() + Self.slice, line)) }
            let now = counts()
            report(now - last, last.time - start.time)
            last = now
        }
        return last - start
    }
}

/// What a packet costs over a sweep of how many receive it.
func costChart(_ title: String, _ xLabel: String, _ rows: [(receivers: Int, counts: EndCounts)]) -> Chart {
    func curve(_ name: String, _ color: String, _ nanoseconds: (EndCounts) -> Double?) -> Chart.Curve {
        Chart.Curve(
            name: name, color: color,
            points: rows.compactMap { row in nanoseconds(row.counts).map { (Double(row.receivers), $0) } })
    }
    return Chart(
        title: title, xLabel: xLabel, yLabel: "CPU per packet (ns)",
        curves: [
            curve("all", "#2c3e50") { Double($0.cpu) / Double($0.packets) },
            curve("input and output", "#e67e22") { $0.split(per: Double($0.packets))?.inputOutput },
            curve("cryptography", "#2980b9") { $0.split(per: Double($0.packets))?.cryptography },
            curve("protocol", "#27ae60") { $0.split(per: Double($0.packets))?.protocol },
        ], isLogarithmic: true)
}

/// A place for a chart.
func parsePlot(_ path: String) throws -> String {
    try Chart.check(path)
    return path
}

/// `500k`, `1.5M`, `20000`.
func parseCount(_ text: String) throws -> Double {
    let number = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    let factors: [Substring: Double] = ["": 1, "k": 1e3, "M": 1e6]
    guard let factor = factors[text[number.endIndex...]], let value = Double(number) else {
        throw ArgumentProblem("write a number, with k or M if you like, such as 500k")
    }
    return value * factor
}

/// `1,10,100`: each from `range`.
func parseIntegers(in range: ClosedRange<Int>, _ what: String) -> @Sendable (String) throws -> [Int] {
    { text in
        let numbers = text.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
        let valid = numbers.compactMap { $0 }.filter(range.contains)
        guard valid.count == numbers.count else {
            throw ArgumentProblem(
                "write \(what) from \(range.lowerBound) to \(range.upperBound), several with commas, such as 1,10,100")
        }
        return valid
    }
}
