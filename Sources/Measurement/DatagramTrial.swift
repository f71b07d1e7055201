import Cryptography
import Reactor
import Transport
import Wire

// `flexicast perf send` and `receive`: datagrams without meaning through the reactor, so that what input and output cost
// is known apart from all else. The ends are two processes, on one machine or two; the sender's last word makes the
// receiver answer with what came, so that each can tell of both.

/// How datagrams are sent without a protocol.
package struct DatagramTrialOptions: Sendable {
    /// Octets of UDP payload.
    package var size = 1200
    /// Bits per second of UDP payload; nil is as fast as the machine can.
    package var rate: UInt64?
    /// Interface that multicast leaves or comes in by; nil leaves it to the routing table.
    package var interface: String?
    package var timeToLive: UInt8 = 1
    /// Whether equal packets leave as segmented sends and may arrive coalesced.
    package var offload = true
    package var io = IOBackendChoice.auto

    package init() {}

    var udp: UDPOptions {
        var options = UDPOptions()
        options.multicastInterface = interface
        options.multicastTTL = timeToLive
        options.multicastLoop = true
        options.segment = offload
        options.coalesce = offload
        options.reuseAddress = true
        return options
    }
}

/// Sends datagrams to one address.
package final class DatagramSendTrial: DatagramHandler {
    private let reactor: Reactor
    private let socket: UDPSocket
    private let destination: SocketAddress
    private let options: DatagramTrialOptions
    private let run: UInt64
    private var next: UInt64 = 0
    /// Packets that a paced sender was too late for.
    private var missed: UInt64 = 0
    /// The run is over: nothing but the last word is sent.
    private var isEnding = false
    private let start: Instant
    private let cpuAtStart: Int64
    private var timer: TimerHandle?
    private let meter = TurnMeter()
    /// What receivers said came, by their addresses.
    package private(set) var reports: [SocketAddress: DatagramTrialTotals] = [:]

    /// Segmented sends per turn: with more, buffers leave the second-level cache (see `SendQueue`).
    private static let runsPerTurn = 4
    /// A paced sender looks again after so long.
    private static let pace = Duration.milliseconds(1)
    /// Receivers that may answer.
    private static let maxReports = 1000

    package var backendDescription: String { reactor.backendDescription }

    package init(to destination: SocketAddress, _ options: DatagramTrialOptions) throws {
        precondition(options.size >= DatagramTrialMessage.leastSize && options.size <= UDPSocket.datagramLimit)
        self.destination = destination
        self.options = options
        reactor = try Reactor(io: .init(options.io))
        socket = try reactor.udpSocket(
            bind: SocketAddress(destination.address.isIPv4 ? .v4(0) : .v6(0), port: 0), options: options.udp)
        var random = randomSeed()
        run = random.next()
        start = reactor.now
        cpuAtStart = Meters.threadTime
        socket.handler = self
        reactor.onTurnEnd { [unowned self] in fill() }
        timer = reactor.timer {}
    }

    deinit { reactor.close() }

    /// Sends until `packets` more have left or `deadline` has come.
    package func run(packets: UInt64 = .max, until deadline: Instant) {
        let begin = next
        while next - begin < packets, Reactor.clock() < deadline {
            timer?.schedule(at: reactor.now + Self.pace)
            meter.measure { reactor.turn(timeout: options.rate == nil && socket.isWritable ? .zero : Self.pace) }
        }
    }

    private func fill() {
        guard !isEnding else { return }
        let perRun = max(1, min(52, 65_400 / options.size))
        var due = UInt64(perRun * Self.runsPerTurn)
        if let rate = options.rate {
            let elapsed = Double((reactor.now - start).nanoseconds) / 1e9
            let wanted = UInt64(elapsed * Double(rate) / 8 / Double(options.size))
            // What a long pause has missed is not made up for.
            if wanted > next + missed + due { missed = wanted - next - due }
            due = wanted - next - missed
        }
        while due > 0, socket.isWritable {
            let count = Int(min(due, UInt64(perRun)))
            let written: Void? = socket.withSendBuffer(count * options.size) { room in
                for index in 0..<count {
                    var place = room._mutatingExtracting((index * options.size)..<((index + 1) * options.size))
                    var writer = ByteWriter(&place)
                    DatagramTrialMessage.writeData(run: run, number: next + UInt64(index), into: &writer)
                }
            }
            guard written != nil else { return }
            socket.enqueue(count * options.size, segment: options.size, to: destination)
            next += UInt64(count)
            due -= UInt64(count)
        }
    }

    /// Tells the receivers that it is over, and waits for the first answer and those soon after it, at most `patience`.
    package func finish(within patience: Duration = .seconds(2)) {
        isEnding = true
        let totals = self.totals
        let limit = Reactor.clock() + patience
        var again = Reactor.clock()
        var end = limit
        while Reactor.clock() < end {
            if reports.isEmpty, Reactor.clock() >= again {
                let word = DatagramTrialMessage.end(run: run, sent: totals).encoded
                _ = socket.send(copyOf: word.span, to: destination)
                again = Reactor.clock() + .milliseconds(100)
            }
            reactor.turn(timeout: .milliseconds(20))
            if !reports.isEmpty { end = min(end, Reactor.clock() + .milliseconds(200)) }
        }
    }

    /// Totals so far: subtract two of them.
    package var counts: EndCounts {
        var counts = EndCounts(sending: reactor.counters, cpu: Meters.threadTime)
        meter.fill(&counts)
        counts.allocations = Meters.allocations
        counts.copied = Meters.copied
        return counts
    }

    private var totals: DatagramTrialTotals {
        var totals = DatagramTrialTotals()
        totals.packets = next
        totals.octets = next * UInt64(options.size)
        totals.cpu = UInt64(max(0, Meters.threadTime - cpuAtStart))
        totals.systemCalls = reactor.counters.systemCalls
        totals.messages = reactor.counters.messagesOut
        return totals
    }

    package func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
        for index in 0..<batch.count {
            let from = batch.source(index)
            let bytes = batch[index]
            guard case .report(run, let totals)? = DatagramTrialMessage(bytes.span),
                reports.count < Self.maxReports || reports[from] != nil
            else { continue }
            reports[from] = totals
        }
    }
}

/// Receives what `DatagramSendTrial` sends, one run.
package final class DatagramReceiveTrial: DatagramHandler {
    private let reactor: Reactor
    private let socket: UDPSocket
    private var judge = ArrivalJudge()
    private var octets: UInt64 = 0
    private var firstReading: EndCounts?
    /// The run that is being heard: the first that came.
    private var run: UInt64?
    private var timer: TimerHandle?
    private let meter = TurnMeter()
    /// When the first packet of the run came, and what its sender said at the end of it.
    package private(set) var startedAt: Instant?
    package private(set) var sent: DatagramTrialTotals?
    /// Datagrams of other runs, or of none.
    package private(set) var strangers: UInt64 = 0

    package var backendDescription: String { reactor.backendDescription }
    package var localAddress: SocketAddress { socket.localAddress }

    /// `address`: one of this machine's, or a group to join.
    package init(at address: SocketAddress, _ options: DatagramTrialOptions) throws {
        reactor = try Reactor(io: .init(options.io))
        socket = try reactor.udpSocket(bind: address, options: options.udp)
        if address.address.isMulticast {
            try socket.join(group: address.address, source: nil, interface: options.interface)
        }
        socket.handler = self
        timer = reactor.timer {}
    }

    deinit { reactor.close() }

    /// Receives until `deadline`, or until the run begins or ends when that is what is waited for.
    package func run(until deadline: Instant, or done: (DatagramReceiveTrial) -> Bool = { _ in false }) {
        while !done(self) {
            let left = deadline - Reactor.clock()
            guard left > .zero else { return }
            meter.measure { reactor.turn(timeout: min(left, .milliseconds(100))) }
        }
    }

    /// Totals so far: subtract two of them.
    package var counts: EndCounts {
        var counts = EndCounts(receiving: reactor.counters, cpu: Meters.threadTime)
        meter.fill(&counts)
        counts.allocations = Meters.allocations
        counts.copied = Meters.copied
        counts.packets = judge.received
        counts.octets = octets
        return counts
    }

    /// What came of the run.
    package var totals: DatagramTrialTotals {
        let counts = firstReading.map { self.counts - $0 } ?? self.counts
        var totals = DatagramTrialTotals()
        totals.packets = judge.received
        totals.octets = octets
        totals.cpu = UInt64(max(0, counts.cpu))
        totals.systemCalls = counts.systemCalls
        totals.messages = counts.messages
        totals.lost = judge.lost(of: sent?.packets ?? 0)
        totals.reordered = judge.reordered
        totals.duplicate = judge.duplicate
        totals.kernelDrops = counts.kernelDrops
        return totals
    }

    package func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
        for index in 0..<batch.count {
            let bytes = batch[index]
            switch DatagramTrialMessage(bytes.span) {
            case .data(let run, let number):
                if self.run == nil { begin(run) }
                guard run == self.run else {
                    strangers += 1
                    continue
                }
                octets += UInt64(bytes.count)
                judge.arrived(number)
            case .end(let run, let totals):
                // Nothing of it may have come.
                if self.run == nil { begin(run) }
                guard run == self.run else {
                    strangers += 1
                    continue
                }
                sent = totals
                let answer = DatagramTrialMessage.report(run: run, received: self.totals).encoded
                _ = socket.send(copyOf: answer.span, to: batch.source(index))
            case .report, nil: strangers += 1
            }
        }
    }

    private func begin(_ run: UInt64) {
        self.run = run
        startedAt = reactor.now
        firstReading = counts
    }
}
