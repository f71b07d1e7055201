import ArgumentParser
import Cryptography
import Measurement
import Operation
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
        help: ArgumentHelp(
            "Octets of a packet's UDP payload, whichever way it goes (default: 1200).", valueName: "octets"),
        transform: parseInteger(in: 1200...8972, "octets"))
    var size: Int = 1200

    @Option(
        help: ArgumentHelp("Octets of an item (default: 262144).", valueName: "octets"),
        transform: parseInteger(in: 1...4_194_304, "octets"))
    var itemSize: Int = 1 << 18

    @Option(
        help: ArgumentHelp(
            "End each row after so many delivered packets, not after its share of --duration.", valueName: "n"),
        transform: parseInteger(in: 1...1_000_000_000, "packets"))
    var packets: Int?

    @Flag(inversion: .prefixedNo, help: "State the heap that one idle receiver costs the source.")
    var memory = true

    @OptionGroup var cipherLibrary: AEADOptions

    @Option(help: ArgumentHelp("Draw the rows as FILE.svg and FILE.png.", valueName: "file"), transform: parsePlot)
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
        let ways = way.isEmpty ? FanoutWay.allCases : way
        let share = perf.duration / (receivers.count * ways.count)
        var rows: [Row] = []
        for count in receivers {
            for way in ways { rows.append(try measure(way, count, for: share, isFirst: rows.isEmpty, output)) }
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

    private func setting(_ backend: String) -> [(String, PerfLine.Value)] {
        [
            ("mode", .text("fanout")), ("backend", .text(backend)), ("packet_octets", .integer(size)),
            ("item_octets", .integer(itemSize)),
            ("aead", .text("\(CipherChoice.aes128.rawValue) (\(cryptographyLibrary))")),
            ("offloads", .text("segmentation, coalescing")),
        ] + perf.machine
    }

    private static let heading = """
        way         receivers      seconds  delivered/CPU-s  ns/delivered = protocol + crypto +   I/O  calls/pkt  \
        pkts/send  receiver ns  idle B
        """

    private func measure(
        _ way: FanoutWay, _ count: Int, for share: Duration, isFirst: Bool, _ output: EventOutput
    ) throws -> Row {
        var options = FanoutTrialOptions()
        options.receivers = count
        options.packetSize = size
        options.itemSize = itemSize
        options.rate = rate
        options.io = perf.io
        let idle = memory ? try FanoutTrial.idleMemory(way, options) : nil
        let trial = try FanoutTrial(way, options)
        let setting = setting(trial.backendDescription)
        if isFirst {
            output.report(
                PerfLine(fields: [("event", .text("begin"))] + setting, text: describe(setting) + Self.heading))
        }
        try trial.connect()
        // Windows open, rates are found.
        try trial.run(
            packets: packets == nil ? .max : 20_000,
            until: packets == nil ? Reactor.clock() + share / 3 : .distantFuture)
        trial.begin()
        let (delivered, items) = (trial.delivered, trial.itemsDelivered)
        var received = delivered
        let limit = packets.map { delivered.packets + UInt64($0) } ?? .max
        let source = try perf.measure(
            until: packets == nil ? Reactor.clock() + share * 2 / 3 : .distantFuture,
            or: { trial.delivered.packets >= limit }, { trial.sent },
            { counts, start in
                // One interval is all there is of a short row.
                let now = trial.delivered
                defer { received = now }
                guard packets != nil || share * 2 / 3 > perf.interval else { return }
                output.report(line("interval", way, count, counts, now - received, from: start, idle: nil))
            }
        ) { try trial.run(packets: limit - trial.delivered.packets, until: $0) }
        let receivers = trial.delivered - delivered
        var more: [(String, PerfLine.Value)] = [
            ("items_delivered", .integer(trial.itemsDelivered - items)), ("fallbacks", .integer(trial.fallbacks)),
        ]
        if let idle { more.append(("idle_receiver_octets", .integer(idle))) }
        var summary = line("summary", way, count, source, receivers, from: 0, idle: idle)
        summary.fields += more + setting
        summary.text? += "\n" + notes(source, receivers)
        if trial.fallbacks > 0 { summary.text? += "; \(trial.fallbacks) fell back" }
        output.report(summary)
        return Row(way: way, receivers: count, rate: Double(receivers.packets) / Double(source.cpu) * 1e9)
    }

    private func line(
        _ event: String, _ way: FanoutWay, _ count: Int, _ source: EndCounts, _ receivers: EndCounts,
        from start: Int64, idle: Int?
    ) -> PerfLine {
        let (packets, left) = (Double(receivers.packets), Double(source.packets))
        let seconds = Double(source.time) / 1e9
        let split = source.split(per: packets)
        var fields: [(String, PerfLine.Value)] = [
            ("event", .text(event)), ("way", .text(way.rawValue)), ("receivers", .integer(count)),
            ("start_s", .number(Double(start) / 1e9)), ("packets_delivered", .integer(Int(receivers.packets))),
            ("packets_delivered_per_cpu_s", .number(packets / Double(source.cpu) * 1e9)),
            ("packets_delivered_per_s", .number(packets / seconds)),
            ("bits_delivered_per_s", .number(Double(receivers.octets) * 8 / seconds)),
            ("cpu_ns_per_packet_delivered", .number(Double(source.cpu) / packets)),
        ]
        if let split {
            fields += [
                ("protocol_ns_per_packet_delivered", .number(split.protocol)),
                ("crypto_ns_per_packet_delivered", .number(split.cryptography)),
                ("io_ns_per_packet_delivered", .number(split.inputOutput)),
            ]
        }
        fields += PerfEndReport(messages: "sends", setting: []).fields(source)
        fields += PerfEndReport.otherEnd("receiver", receivers)
        var text = way.rawValue + String(repeating: " ", count: 12 - way.rawValue.count) + padded("\(count)", 9)
        text += padded("\(fixed(Double(start) / 1e9, 1))-\(fixed(Double(start) / 1e9 + seconds, 1))", 13)
        text += padded(fixed(packets / Double(source.cpu) * 1e9, 0), 17)
        text += padded(fixed(Double(source.cpu) / packets, 0), 14)
        text += padded(split.map { fixed($0.protocol, 0) } ?? "-", 11)
        text += padded(split.map { fixed($0.cryptography, 0) } ?? "-", 9)
        text += padded(split.map { fixed($0.inputOutput, 0) } ?? "-", 8)
        text += padded(fixed(Double(source.systemCalls) / left, 4), 11)
        text += padded(fixed(left / Double(source.messages), 1), 11)
        text += padded(fixed(Double(receivers.cpu) / packets, 0), 13) + padded(idle.map { "\($0)" } ?? "-", 8)
        return PerfLine(fields: fields, text: text)
    }

    /// What the table has no room for.
    private func notes(_ source: EndCounts, _ receivers: EndCounts) -> String {
        func rates(_ counts: EndCounts) -> String {
            let seconds = Double(counts.time) / 1e9
            return "\(fixed(Double(counts.packets) / seconds / 1e3, 1)) kpackets/s, "
                + "\(fixed(Double(counts.octets) * 8 / seconds / 1e6, 1)) Mbit/s"
        }
        return """
                sent \(rates(source)); \(PerfEndReport.notes(source))
                delivered \(rates(receivers)), \(fixed(Double(receivers.packets) / Double(receivers.messages), 1)) packets \
            per receive; \(PerfEndReport.notes(receivers))
            """
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
