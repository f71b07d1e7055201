import ArgumentParser
import Endpoint
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

    @OptionGroup var perf: PerfOptions

    func run() throws {
        let output = try perf.begin()
        let share = perf.duration / receivers.count
        var last = 0.0
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
            let (captured, received, drops) = (trial.captured, trial.received, trial.drops)
            let counts = measure(trial, for: share) { output.report(report.interval($0, from: $1)) }
            var more: [(String, PerfLine.Value)] = [
                ("packets_in", .integer(Int(trial.captured - captured))),
                ("received", .integer(Int(trial.received - received))),
                (
                    "cpu_ns_per_packet_in",
                    .number(Double(counts.cpu) / Double(trial.captured - captured))
                ),
            ]
            var note = "\(trial.captured - captured) packets in; gateways received \(trial.received - received)"
            for (before, after) in zip(drops, trial.drops) {
                let count = after.count - before.count
                more.append(("drops_\(after.name)", .integer(Int(count))))
                if count > 0 { note += "; \(count) \(after.name.replacing("_", with: " "))" }
            }
            output.report(report.summary(counts, more, note: note))
            last = Double(counts.packets) / Double(counts.time) * 1e9
        }
        output.flush()
        try perf.judge(last)
    }

    private func measure(
        _ trial: RelayTrial, for share: Duration, _ report: (EndCounts, Int64) -> Void
    ) -> EndCounts {
        guard let packets else {
            return perf.measure(for: share, { trial.forwarded }, report, { trial.run(until: $0) })
        }
        let start = trial.forwarded
        trial.run(packets: UInt64(packets))
        return trial.forwarded - start
    }
}
