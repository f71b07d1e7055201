import ArgumentParser
import Measurement
import Operation
import Reactor
import Wire

struct PerfRelayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "relay",
        abstract: "Forward multicast into tunnels (AMT), and say what a copy costs the relay.",
        discussion: """
            A source, a relay and N gateways in one thread on lo, each with its own account of CPU. Packets come to the \
            relay one by one, as off a wire, by a packet socket, which takes root or CAP_NET_RAW; with --plain by ordinary \
            sockets. A packet counts as often as it was forwarded. --least is of the last row.

            CPU is told apart by looking at one turn of seventeen: I/O is calls into the kernel, protocol is all else.
            """)

    @Option(
        help: ArgumentHelp("Gateways, several with commas (default: 1,10).", valueName: "n"),
        transform: parseIntegers(in: 1...10_000, "gateways"))
    var receivers = [1, 10]

    @Option(
        help: ArgumentHelp("Bits per second of the source (default: all that one core can).", valueName: "bits"),
        transform: parseRate)
    var rate: UInt64?

    @Option(
        help: ArgumentHelp("Octets of a packet's UDP payload (default: 1200).", valueName: "octets"),
        transform: parseInteger(in: 32...1440, "octets"))
    var size: Int = 1200

    @Option(
        help: ArgumentHelp("Stop each row after so many packets of the source, whatever the time.", valueName: "n"),
        transform: parseInteger(in: 1...1_000_000_000, "packets"))
    var packets: Int?

    @Flag(help: "Take packets by ordinary sockets, without privilege.")
    var plain = false

    @Option(help: ArgumentHelp("Draw the sweep as FILE.svg and FILE.png.", valueName: "file"), transform: parsePlot)
    var plot: String?

    @OptionGroup var perf: PerfOptions

    func run() throws {
        let output = try perf.begin()
        let share = perf.duration / receivers.count
        var sweep: [(receivers: Int, counts: EndCounts)] = []
        for count in receivers {
            var options = RelayTrialOptions()
            options.gateways = count
            options.size = size
            options.rate = rate
            options.isPlain = plain
            options.io = perf.io
            let trial = try RelayTrial(options)
            try trial.connect()
            // Buffers and tables, the first use of this and that.
            trial.run(packets: 2080, until: packets == nil ? Reactor.clock() + .seconds(1) : .distantFuture)
            let report = PerfEndReport(
                messages: "sends",
                setting: [
                    ("mode", .text("relay")), ("backend", .text(trial.backendDescription)),
                    ("gateways", .integer(count)), ("packet_octets", .integer(size)), ("aead", .text("none")),
                    ("upstream", .text(plain ? "sockets" : "packet socket")), ("offloads", .text("segmentation")),
                ] + perf.machine)
            output.report(report.begin)
            trial.begin()
            let (captured, drops, source, gateways) = (trial.captured, trial.drops, trial.source, trial.received)
            let first = trial.sent
            let limit = packets.map { first + UInt64($0) } ?? .max
            let counts = perf.measure(
                until: packets == nil ? Reactor.clock() + share : .distantFuture, or: { trial.sent >= limit },
                { trial.forwarded }, { output.report(report.interval($0, from: $1)) }
            ) { trial.run(packets: limit - trial.sent, until: $0) }
            let packetsIn = trial.captured - captured
            let received = trial.received - gateways
            var more: [(String, PerfLine.Value)] = [
                ("packets_in", .integer(Int(packetsIn))),
                ("cpu_ns_per_packet_in", .number(Double(counts.cpu) / Double(packetsIn))),
            ]
            var note = "\(packetsIn) packets in"
            for (before, after) in zip(drops, trial.drops) {
                let count = after.count - before.count
                more.append(("drops_\(after.name)", .integer(Int(count))))
                if count > 0 { note += "; \(count) \(after.name.replacing("_", with: " "))" }
            }
            note += "\ngateways received \(received.packets); " + PerfEndReport.costs(received, messages: "receives")
            more += PerfEndReport.otherEnd("receiver", received)
            more += PerfEndReport.otherEnd("source", trial.source - source, messages: "sends")
            output.report(report.summary(counts, more, note: note))
            sweep.append((count, counts))
        }
        if let plot {
            let chart = costChart("What a forwarded packet costs the relay", "tunnels", sweep)
            for file in try chart.write(to: plot) where !perf.json { print("plot: \(file)") }
        }
        output.flush()
        if let last = sweep.last?.counts { try perf.judge(Double(last.packets) / Double(last.time) * 1e9) }
    }
}
