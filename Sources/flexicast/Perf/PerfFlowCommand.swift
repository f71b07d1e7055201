import ArgumentParser
import Cryptography
import Measurement
import Operation
import Reactor
import Wire

extension CipherChoice: ExpressibleByArgument {}
extension ZeroCopyMode: ExpressibleByArgument {}

struct PerfFlowCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flow",
        abstract: "Send a sealed flow as a source does, and say what a packet costs.",
        discussion: """
            Items that never end go through the source's own sender to a group, in one thread. The members' \
            acknowledgements are made in the process; what the source does with them is real. With --heard a whole \
            receiver in the same thread is the only member: it opens every packet, takes the items, grants credit and \
            acknowledges on its connection. Times are CPU \
            times: the packet rate that one core allows is one second by the source's CPU time for a packet.

            Before the first line a second at the most goes by to warm up. CPU is told apart by looking at one turn of \
            seventeen: cryptography is packet protection, I/O is calls into the kernel, protocol is all else.

            Allocations are counted when Perf/counter.c is preloaded, as `make perf` does.
            """)

    @Option(
        help: ArgumentHelp("Bits per second (default: all that one core can).", valueName: "bits"), transform: parseRate
    )
    var rate: UInt64?

    @Option(
        help: ArgumentHelp("Octets of a packet's UDP payload (default: 1200).", valueName: "octets"),
        transform: parseInteger(in: 256...9000, "octets"))
    var size: Int = 1200

    @Option(
        help: ArgumentHelp("Octets of an item (default: 1048576).", valueName: "octets"),
        transform: parseInteger(in: 1...4_194_304, "octets"))
    var itemSize: Int = 1 << 20

    @Option(
        help: ArgumentHelp(
            "Members that acknowledge, several numbers with commas for a sweep (default: 1).", valueName: "n"),
        transform: parseIntegers(in: 1...100_000, "members"))
    var receivers = [1]

    @Option(
        help: ArgumentHelp(
            "Members acknowledge after so many packets instead of after the ack delay: counts are exact then.",
            valueName: "n"),
        transform: parseInteger(in: 1...100_000, "packets"))
    var ackEvery: Int?

    @Option(
        help: ArgumentHelp("Stop after so many packets, whatever the time.", valueName: "n"),
        transform: parseInteger(in: 1...1_000_000_000, "packets"))
    var packets: Int?

    @Option(help: ArgumentHelp("Interface that the flow leaves by.", valueName: "if"))
    var interface = "lo"

    // Optional, because the unoptimized initializer of one with a default crashes (Swift 6.3: it moves a misaligned UInt128).
    @Option(
        help: ArgumentHelp("Where the flow goes (default: 239.10.0.1:5999).", valueName: "group:port"),
        transform: parseGroup)
    var group: SocketAddress?

    @Option(help: ArgumentHelp("Cipher.", valueName: "suite"))
    var suite = CipherChoice.aes128

    @OptionGroup var cipherLibrary: AEADOptions

    @Option(
        help: ArgumentHelp(
            "Send without a copy (io_uring): auto measures which is cheaper, on, off.", valueName: "auto|on|off"))
    var zeroCopy = ZeroCopyMode.auto

    @Flag(inversion: .prefixedNo, help: "Tell protocol, cryptography and I/O apart, which reads the clock.")
    var split = true

    @Flag(help: "A whole receiver is the member, with its own account of CPU.")
    var heard = false

    @Option(help: ArgumentHelp("Draw the sweep as FILE.svg and FILE.png.", valueName: "file"), transform: parsePlot)
    var plot: String?

    @OptionGroup var perf: PerfOptions

    func validate() throws {
        guard group?.address.isIPv4 ?? true else {
            throw ValidationError("--group: IPv4 only, such as 239.10.0.1:5999")
        }
        guard !heard || receivers == [1] && ackEvery == nil else {
            throw ValidationError(
                "--heard: one receiver, which acknowledges when it has to; no --receivers, no --ack-every")
        }
    }

    func run() throws {
        let output = try perf.begin()
        var sweep: [(receivers: Int, counts: EndCounts)] = []
        for members in receivers { sweep.append((members, try measure(members, output))) }
        if let plot {
            let chart = costChart("What a packet of the flow costs the source", "receivers that acknowledge", sweep)
            for file in try chart.write(to: plot) where !perf.json { print("plot: \(file)") }
        }
        output.flush()
        if let last = sweep.last?.counts { try perf.judge(Double(last.packets) / Double(last.time) * 1e9) }
    }

    private func measure(_ members: Int, _ output: EventOutput) throws -> EndCounts {
        var options = FlowTrialOptions()
        options.rate = rate
        options.packetSize = size
        options.itemSize = itemSize
        options.members = members
        options.acknowledgeEvery = ackEvery.map(UInt64.init)
        options.splitsTime = split
        options.isHeard = heard
        options.interface = interface
        if let group { options.group = group }
        options.cipher = suite
        options.io = perf.io
        options.zeroCopy = zeroCopy
        let trial = try FlowTrial(options)
        let report = PerfEndReport(
            messages: "sends",
            setting: [
                ("mode", .text("flow")), ("backend", .text(trial.backendDescription)), ("interface", .text(interface)),
                ("aead", .text("\(suite.rawValue) (\(cryptographyLibrary))")), ("packet_octets", .integer(size)),
                ("item_octets", .integer(itemSize)), ("members", .integer(members)), ("heard", .flag(heard)),
                ("offloads", .text("segmentation, coalescing")),
            ] + perf.machine)
        output.report(report.begin)

        // Keys, tables, the first use of this and that. Exact counts want the same of it whatever the time.
        try trial.run(packets: 5000, until: packets == nil ? Reactor.clock() + .seconds(1) : .distantFuture)
        trial.begin()
        let before = (trial.written, trial.heard, trial.overhead, trial.acknowledgements, trial.lossReports)
        let (copies, items) = (trial.zeroCopySends, trial.items)
        let limit = packets.map { before.0 + UInt64($0) } ?? .max
        let counts = try perf.measure(
            until: packets == nil ? Reactor.clock() + perf.duration : .distantFuture, or: { trial.written >= limit },
            { trial.sent }, { output.report(report.interval($0, from: $1)) }
        ) { try trial.run(packets: limit - trial.written, until: $0) }

        let overhead = trial.overhead - before.2
        let acknowledgements = trial.acknowledgements - before.3
        let lost = trial.lossReports - before.4
        var more: [(String, PerfLine.Value)] = [
            ("overhead_octets", .integer(Int(overhead))),
            ("overhead_octets_per_packet", .number(Double(overhead) / Double(counts.packets))),
            ("acknowledgements", .integer(Int(acknowledgements))), ("loss_reports", .integer(Int(lost))),
            ("zero_copy", .text(trial.zeroCopyDescription)),
            ("zero_copy_sends", .integer(Int(trial.zeroCopySends.done - copies.done))),
            ("zero_copy_copied", .integer(Int(trial.zeroCopySends.copied - copies.copied))),
        ]
        var note = "\(acknowledgements) acknowledgements, lost \(lost); zero-copy \(trial.zeroCopyDescription)"
        if let heard = trial.heard, let start = before.1 {
            let received = heard - start
            more += PerfEndReport.otherEnd("receiver", received)
            more += [
                ("receiver_items", .integer(Int(trial.items.count - items.count))),
                ("receiver_item_octets", .integer(Int(trial.items.octets - items.octets))),
            ]
            note +=
                "\nheard \(received.packets) packets, \(trial.items.count - items.count) items; "
                + PerfEndReport.costs(received, messages: "receives")
        }
        output.report(report.summary(counts, more, note: note))
        return counts
    }
}
