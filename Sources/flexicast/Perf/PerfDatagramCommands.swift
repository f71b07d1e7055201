import ArgumentParser
import Glibc
import Measurement
import Operation
import Reactor
import Transport
import Wire

/// What `send` and `receive` have in common.
struct DatagramOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Interface of a multicast group.", valueName: "if"))
    var interface: String?

    @Flag(inversion: .prefixedNo, help: "Segmented sends and coalesced receives (UDP GSO and GRO).")
    var offload = true

    func options(_ io: IOBackendChoice) -> DatagramTrialOptions {
        var options = DatagramTrialOptions()
        options.interface = interface
        options.offload = offload
        options.io = io
        return options
    }
}

struct PerfSendCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "send",
        abstract: "Send datagrams without meaning, to know what input and output cost by themselves.",
        discussion: """
            To `flexicast perf receive` on this machine, in another network namespace or on another machine, or to a \
            group. At the end every receiver says what came, so that the summary tells of both ends.
            """)

    @Argument(
        help: ArgumentHelp("Where to: an address or a group, and a port.", valueName: "addr:port"),
        transform: parseDestination)
    var destination: SocketAddress

    @Option(
        help: ArgumentHelp("Bits per second of UDP payload (default: all that one core can).", valueName: "bits"),
        transform: parseRate)
    var rate: UInt64?

    @Option(
        help: ArgumentHelp("Octets of UDP payload (default: 1200).", valueName: "octets"),
        transform: parseInteger(in: 32...65_507, "octets"))
    var size: Int = 1200

    @Option(
        help: ArgumentHelp("How many routers multicast may cross (default: 1).", valueName: "n"),
        transform: parseInteger(in: 1...255, "a number of hops"))
    var ttl: Int = 1

    @OptionGroup var datagrams: DatagramOptions
    @OptionGroup var perf: PerfOptions

    func run() throws {
        let output = try perf.begin()
        var options = datagrams.options(perf.io)
        options.size = size
        options.rate = rate
        options.timeToLive = UInt8(ttl)
        let trial = try DatagramSendTrial(to: destination, options)
        let report = PerfEndReport(
            messages: "sends",
            setting: [
                ("mode", .text("send")), ("backend", .text(trial.backendDescription)), ("to", .text("\(destination)")),
                ("packet_octets", .integer(size)), ("aead", .text("none")),
                ("offloads", .text(datagrams.offload ? "segmentation" : "none")),
            ] + perf.machine)
        output.report(report.begin)
        let counts = perf.measure(
            until: Reactor.clock() + perf.duration, { trial.counts }, { output.report(report.interval($0, from: $1)) }
        ) { trial.run(until: $0) }
        trial.finish()
        let heard = trial.reports.sorted { "\($0.key)" < "\($1.key)" }
        var more: [(String, PerfLine.Value)] = [("receivers", .integer(heard.count))]
        var notes: [String] = []
        for (index, (address, totals)) in heard.enumerated() {
            // One receiver is what most have; more are told apart by number.
            let prefix = index == 0 ? "receiver_" : "receiver\(index + 1)_"
            more += [
                (prefix + "address", .text("\(address)")), (prefix + "packets", .integer(Int(totals.packets))),
                (prefix + "lost", .integer(Int(totals.lost))), (prefix + "reordered", .integer(Int(totals.reordered))),
                (prefix + "cpu_ns_per_packet", .number(Double(totals.cpu) / Double(totals.packets))),
                (prefix + "cpu_percent", .number(Double(totals.cpu) / Double(counts.time) * 100)),
                (prefix + "system_calls_per_packet", .number(Double(totals.systemCalls) / Double(totals.packets))),
                (prefix + "packets_per_receive", .number(Double(totals.packets) / Double(totals.messages))),
                (prefix + "kernel_drops", .integer(Int(totals.kernelDrops))),
            ]
            notes.append("at \(address): \(describe(totals, over: counts.time))")
        }
        if heard.isEmpty {
            notes = ["no receiver answers at \(destination): flexicast perf receive --listen \(destination)"]
        }
        output.report(report.summary(counts, more, note: notes.joined(separator: "\n")))
        output.flush()
        try perf.judge(Double(counts.packets) / Double(counts.time) * 1e9)
    }

    private func describe(_ totals: DatagramTrialTotals, over time: Int64) -> String {
        let sent = Double(totals.packets + totals.lost)
        let packets = Double(totals.packets)
        return """
            \(totals.packets) packets, \(totals.lost) lost (\(fixed(Double(totals.lost) / sent * 100, 2)) %), \
            \(totals.reordered) reordered, \(totals.kernelDrops) dropped by the kernel; \
            \(fixed(Double(totals.cpu) / Double(time) * 100, 0)) % of a processor, \
            \(fixed(Double(totals.cpu) / packets, 0)) ns of CPU, \
            \(fixed(Double(totals.systemCalls) / packets, 4)) system calls per packet, \
            \(fixed(packets / Double(totals.messages), 1)) packets per receive
            """
    }
}

struct PerfReceiveCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "receive",
        abstract: "Receive what `flexicast perf send` sends: one run of it.",
        discussion: """
            Loss and reordering are told from the packets' numbers. The run is over when its sender says so, or \
            --duration after its first packet.
            """)

    @Option(
        help: ArgumentHelp("An address of this machine, or a group to join, and a port.", valueName: "addr:port"),
        transform: parseDestination)
    var listen: SocketAddress

    @Option(
        help: ArgumentHelp("How long to wait for the first packet (default: for ever).", valueName: "duration"),
        transform: parseDuration)
    var timeout: Duration?

    @OptionGroup var datagrams: DatagramOptions
    @OptionGroup var perf: PerfOptions

    func run() throws {
        let output = try perf.begin()
        let trial = try DatagramReceiveTrial(at: listen, datagrams.options(perf.io))
        let report = PerfEndReport(
            messages: "receives",
            setting: [
                ("mode", .text("receive")), ("backend", .text(trial.backendDescription)),
                ("at", .text("\(trial.localAddress)")), ("aead", .text("none")),
                ("offloads", .text(datagrams.offload ? "coalescing" : "none")),
            ] + perf.machine)
        output.report(report.begin)
        trial.run(until: timeout.map { Reactor.clock() + $0 } ?? .distantFuture) {
            $0.startedAt != nil || Interruption.hasCome
        }
        guard trial.startedAt != nil else {
            output.flush()
            throw EndpointProblem("nothing came to \(trial.localAddress): flexicast perf send \(trial.localAddress)")
        }
        var counts = perf.measure(
            until: Reactor.clock() + perf.duration, or: { trial.sent != nil }, { trial.counts },
            { output.report(report.interval($0, from: $1)) }
        ) { trial.run(until: $0) { $0.sent != nil } }
        // The sender asks again when the answer was lost.
        trial.run(until: Reactor.clock() + .milliseconds(300))
        let totals = trial.totals
        counts.packets = totals.packets
        counts.octets = totals.octets
        var more: [(String, PerfLine.Value)] = [
            ("lost", .integer(Int(totals.lost))), ("reordered", .integer(Int(totals.reordered))),
            ("duplicate", .integer(Int(totals.duplicate))), ("strangers", .integer(Int(trial.strangers))),
        ]
        var note = "\(totals.lost) lost, \(totals.reordered) reordered, \(totals.duplicate) twice"
        if let sent = trial.sent {
            let packets = Double(sent.packets)
            let (cpu, calls) = (Double(sent.cpu) / packets, Double(sent.systemCalls) / packets)
            let percent = Double(sent.cpu) / Double(counts.time) * 100
            more += [
                ("sender_packets", .integer(Int(sent.packets))), ("sender_cpu_ns_per_packet", .number(cpu)),
                ("sender_cpu_percent", .number(percent)), ("sender_system_calls_per_packet", .number(calls)),
                ("sender_packets_per_send", .number(packets / Double(sent.messages))),
            ]
            note += "; sent \(sent.packets): \(fixed(percent, 0)) % of a processor, \(fixed(cpu, 0)) ns of CPU, "
            note += "\(fixed(calls, 4)) system calls per packet, "
            note += "\(fixed(packets / Double(sent.messages), 1)) packets per send"
        }
        output.report(report.summary(counts, more, note: note))
        output.flush()
        try perf.judge(Double(counts.packets) / Double(counts.time) * 1e9)
    }
}

/// `192.0.2.1:5000`, `239.10.0.1:5000`, `[2001:db8::1]:5000`.
func parseDestination(_ text: String) throws -> SocketAddress {
    guard let address = SocketAddress(text), address.port != 0 else {
        throw ArgumentProblem("write ADDRESS:PORT, such as 192.0.2.1:5000, 239.10.0.1:5000 or [2001:db8::1]:5000")
    }
    return address
}

/// Why a measurement cannot go on.
struct EndpointProblem: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}
