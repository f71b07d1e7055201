import ArgumentParser
import Cryptography
import Endpoint
import Reactor
import Wire

extension FanoutWay: ExpressibleByArgument {}

struct PerfFanoutCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fanout",
        abstract: "Bring items to many receivers, each way the source has, side by side.",
        discussion: """
            A source and N receivers in one thread, whole: connections, keys, acknowledgements, items, sockets on lo. Each \
            side's CPU is counted apart, and by looking at one turn of seventeen the source's is told apart: cryptography is \
            packet protection, I/O is calls into the kernel, protocol is all else. A packet counts as often as it was delivered; what lo does to bring a packet to \
            every socket is charged to the source that sends it. The ratio is to unicast with as many receivers. --least \
            is packets delivered per second of the source's CPU, of the last row.
            """)

    @Option(
        help: ArgumentHelp("Receivers, several with commas (default: 1,10,100).", valueName: "n"),
        transform: parseIntegers(in: 1...10_000, "receivers"))
    var receivers = [1, 10, 100]

    @Option(help: ArgumentHelp("A way to take; may be given again (default: all).", valueName: "way"))
    var way: [FanoutWay] = []

    @Option(
        help: ArgumentHelp(
            "Bits per second of the flow at the most (default: 4G shared by the receivers, which they bear in one thread).",
            valueName: "bits"),
        transform: parseRate)
    var rate: UInt64?

    @Option(
        help: ArgumentHelp("Octets of an item (default: 262144).", valueName: "octets"),
        transform: parseInteger(in: 1...4_194_304, "octets"))
    var itemSize: Int = 1 << 18

    @Flag(inversion: .prefixedNo, help: "State the heap that one idle receiver costs the source.")
    var memory = true

    @Option(help: ArgumentHelp("Draw the rows as FILE.svg and FILE.png.", valueName: "file"))
    var plot: String?

    @OptionGroup var perf: PerfOptions

    private struct Row {
        var way: FanoutWay
        var receivers: Int
        /// Packets delivered per second of the source's CPU.
        var rate: Double
    }

    func run() throws {
        let output = try perf.begin()
        let setting: [(String, PerfLine.Value)] =
            [
                ("mode", .text("fanout")), ("item_octets", .integer(itemSize)),
                ("aead", .text("\(CipherChoice.aes128.rawValue) (\(cryptographyLibrary))")),
                ("offloads", .text("segmentation, coalescing")),
            ] + perf.machine
        output.report(
            PerfLine(
                fields: [("event", .text("begin"))] + setting,
                text: describe(setting)
                    + "way         receivers  delivered/CPU-s  ns/delivered = protocol + crypto +   I/O  calls/pkt  pkts/send  receiver ns  idle B  "
            ))
        let ways = way.isEmpty ? FanoutWay.allCases : way
        let share = perf.duration / (receivers.count * ways.count)
        var rows: [Row] = []
        for count in receivers {
            for way in ways { rows.append(try measure(way, count, for: share, setting, output)) }
        }
        for row in rows where row.way != .unicast {
            guard let other = rows.first(where: { $0.way == .unicast && $0.receivers == row.receivers }) else {
                continue
            }
            let ratio = row.rate / other.rate
            output.report(
                PerfLine(
                    fields: [
                        ("event", .text("ratio")), ("way", .text(row.way.rawValue)),
                        ("receivers", .integer(row.receivers)), ("to_unicast", .number(ratio)),
                    ], text: "\(row.way.rawValue) to \(row.receivers): \(fixed(ratio, 1)) times unicast"))
        }
        if let plot {
            for file in try chart(rows, ways).write(to: plot) where !perf.json { print("plot: \(file)") }
        }
        output.flush()
        try perf.judge(rows.last?.rate ?? 0)
    }

    private func measure(
        _ way: FanoutWay, _ count: Int, for share: Duration, _ setting: [(String, PerfLine.Value)],
        _ output: EventOutput
    ) throws -> Row {
        var options = FanoutTrialOptions()
        options.receivers = count
        options.itemSize = itemSize
        options.rate = rate
        options.io = perf.io
        let idle = memory ? try FanoutTrial.idleMemory(way, options) : nil
        let trial = try FanoutTrial(way, options)
        try trial.connect()
        // Windows open, rates are found.
        trial.run(until: Reactor.clock() + share / 3)
        let (sent, delivered, items) = (trial.sent, trial.delivered, trial.itemsDelivered)
        trial.run(until: Reactor.clock() + share * 2 / 3)
        let source = trial.sent - sent
        let receivers = trial.delivered - delivered
        let packets = Double(receivers.packets)
        let rate = packets / Double(source.cpu) * 1e9
        let left = Double(source.packets)
        var fields: [(String, PerfLine.Value)] = [
            ("event", .text("summary")), ("way", .text(way.rawValue)), ("receivers", .integer(count)),
            ("backend", .text(trial.backendDescription)), ("seconds", .number(Double(source.time) / 1e9)),
            ("packets_sent", .integer(Int(source.packets))), ("packets_delivered", .integer(Int(receivers.packets))),
            ("packets_delivered_per_cpu_s", .number(rate)),
            ("packets_delivered_per_s", .number(packets / Double(source.time) * 1e9)),
            ("bits_delivered_per_s", .number(Double(receivers.octets) * 8 / Double(source.time) * 1e9)),
            ("items_delivered", .integer(trial.itemsDelivered - items)),
            ("cpu_ns_per_packet_sent", .number(Double(source.cpu) / left)),
            ("cpu_ns_per_packet_delivered", .number(Double(source.cpu) / packets)),
            ("system_calls_per_packet", .number(Double(source.systemCalls) / left)),
            ("packets_per_send", .number(left / Double(source.messages))),
            ("turns", .integer(Int(source.turns))), ("longest_turn_us", .number(Double(source.longestTurn) / 1e3)),
            ("send_blocked", .integer(Int(source.blocked))), ("send_refused", .integer(Int(source.refused))),
            ("unsegmented_runs", .integer(Int(source.unsegmented))),
            ("kernel_drops", .integer(Int(source.kernelDrops))),
            ("receiver_cpu_ns_per_packet", .number(Double(receivers.cpu) / packets)),
            ("receiver_system_calls_per_packet", .number(Double(receivers.systemCalls) / packets)),
            ("packets_per_receive", .number(packets / Double(receivers.messages))),
            ("receiver_drops", .integer(Int(receivers.kernelDrops))), ("fallbacks", .integer(trial.fallbacks)),
        ]
        fields += source.refusals.byReason.map { ("send_refused_\($0.name)", .integer(Int($0.count))) }
        let split = source.split(per: packets)
        if let split {
            fields += [
                ("protocol_ns_per_packet_delivered", .number(split.protocol)),
                ("crypto_ns_per_packet_delivered", .number(split.cryptography)),
                ("io_ns_per_packet_delivered", .number(split.inputOutput)),
            ]
        }
        if let idle { fields.append(("idle_receiver_octets", .integer(idle))) }
        if let allocations = source.allocations {
            fields.append(("allocations_per_packet", .number(Double(allocations) / left)))
        }
        var text = way.rawValue + String(repeating: " ", count: 12 - way.rawValue.count) + padded("\(count)", 9)
        text += padded(fixed(rate, 0), 17) + padded(fixed(Double(source.cpu) / packets, 0), 14)
        text += padded(split.map { fixed($0.protocol, 0) } ?? "-", 11)
        text += padded(split.map { fixed($0.cryptography, 0) } ?? "-", 9)
        text += padded(split.map { fixed($0.inputOutput, 0) } ?? "-", 8)
        text += padded(fixed(Double(source.systemCalls) / left, 4), 11)
        text += padded(fixed(left / Double(source.messages), 1), 11)
        text += padded(fixed(Double(receivers.cpu) / packets, 0), 13) + padded(idle.map { "\($0)" } ?? "-", 8)
        if receivers.kernelDrops > 0 { text += "  \(receivers.kernelDrops) dropped" }
        if trial.fallbacks > 0 { text += "  \(trial.fallbacks) fell back" }
        output.report(PerfLine(fields: fields + setting, text: text))
        return Row(way: way, receivers: count, rate: rate)
    }

    private func chart(_ rows: [Row], _ ways: [FanoutWay]) -> Chart {
        let colors = ["#2980b9", "#e67e22", "#27ae60"]
        return Chart(
            title: "Packets delivered per second of the source's CPU", xLabel: "receivers",
            yLabel: "thousand packets per CPU second",
            curves: ways.enumerated().map { index, way in
                Chart.Curve(
                    name: way.rawValue, color: colors[index % colors.count],
                    points: rows.filter { $0.way == way }.map { (Double($0.receivers), $0.rate / 1e3) })
            }, isLogarithmic: true)
    }
}
