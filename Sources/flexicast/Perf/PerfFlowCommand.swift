import ArgumentParser
import Cryptography
import Endpoint
import Reactor
import Wire

extension CipherChoice: ExpressibleByArgument {}

struct PerfFlowCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flow",
        abstract: "Send a sealed flow as a source does, and say what a packet costs.",
        discussion: """
            Items that never end go through the source's own sender to a group, in one thread. The members' \
            acknowledgements are made in the process; what the source does with them is real. With --heard a receiver \
            in the same thread opens every packet, and members acknowledge only what it has opened. Times are CPU \
            times: the packet rate that one core allows is one second by the source's CPU time for a packet.

            Before the first line a second at the most goes by to warm up. CPU is split by reading the clock in one turn of sixteen: protocol (frames, packet records, \
            acknowledgements), cryptography (sealing, header masks), and the rest, which is I/O (system calls, the loop).

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
        help: ArgumentHelp("Members that acknowledge (default: 1).", valueName: "n"),
        transform: parseInteger(in: 1...100_000, "members"))
    var receivers: Int = 1

    @Option(
        help: ArgumentHelp(
            "Members acknowledge after so many packets instead of after the ack delay: counts are exact then.",
            valueName: "n"),
        transform: parseInteger(in: 1...100_000, "packets"))
    var ackEvery: Int?

    @Option(help: ArgumentHelp("How long (default: 10s).", valueName: "duration"), transform: parseDuration)
    var duration: Duration = .seconds(10)

    @Option(
        help: ArgumentHelp("Stop after so many packets, whatever the time.", valueName: "n"),
        transform: parseInteger(in: 1...1_000_000_000, "packets"))
    var packets: Int?

    @Option(
        help: ArgumentHelp("Time between two lines (default: 1s).", valueName: "duration"), transform: parseDuration)
    var interval: Duration = .seconds(1)

    @Option(help: ArgumentHelp("Interface that the flow leaves by.", valueName: "if"))
    var interface = "lo"

    @Option(help: ArgumentHelp("Where the flow goes.", valueName: "group:port"), transform: parseGroup)
    var group = SocketAddress(.v4(0xef0a_0001), port: 5999)

    @Option(help: ArgumentHelp("Cipher.", valueName: "suite"))
    var suite = CipherChoice.aes128

    @Flag(inversion: .prefixedNo, help: "Tell protocol from cryptography, which reads the clock.")
    var split = true

    @Flag(help: "Listen to the group and open every packet.")
    var heard = false

    @Option(help: ArgumentHelp("Input/output backend: auto, io_uring or epoll.", valueName: "backend"))
    var io: IOBackendChoice = .auto

    @Flag(help: "Print one JSON object per line on standard output.")
    var json = false

    func validate() throws {
        guard group.address.isIPv4 else { throw ValidationError("--group: IPv4 only, such as 239.10.0.1:5999") }
    }

    func run() throws {
        var options = FlowTrialOptions()
        options.rate = rate
        options.packetSize = size
        options.itemSize = itemSize
        options.members = receivers
        options.acknowledgeEvery = ackEvery.map(UInt64.init)
        options.splitsTime = split
        options.isHeard = heard
        options.interface = interface
        options.group = group
        options.cipher = suite
        options.io = io
        let trial = try FlowTrial(options)
        let report = PerfFlowReport(
            setting: [
                ("backend", .text(trial.backendDescription)), ("interface", .text(interface)),
                ("aead", .text("\(suite.rawValue) (\(cryptographyLibrary))")), ("packet_octets", .integer(size)),
                ("item_octets", .integer(itemSize)), ("members", .integer(receivers)), ("heard", .flag(heard)),
                ("kernel", .text(Meters.kernel)), ("cpu", .text(Meters.processor)),
            ], isHeard: heard, countsAllocations: Meters.allocations != nil)
        let output = EventOutput(style: json ? .json : .text)
        output.report(report.begin)

        // Keys, tables, the first use of this and that.
        trial.run(packets: 5000, until: Reactor.clock() + .seconds(1))
        let start = trial.counts
        var last = start
        let limit = packets.map(UInt64.init) ?? .max
        let end = Reactor.clock() + duration
        var sent: UInt64 = 0
        while sent < limit, packets != nil || Reactor.clock() < end {
            let until = packets == nil ? min(Reactor.clock() + interval, end) : Reactor.clock() + interval
            trial.run(packets: limit - sent, until: until)
            let now = trial.counts
            sent = (now - start).packets
            output.report(report.line(now - last, from: last.time - start.time, name: "interval"))
            last = now
        }
        output.report(report.line(last - start, from: 0, name: "summary"))
        output.flush()
    }
}
