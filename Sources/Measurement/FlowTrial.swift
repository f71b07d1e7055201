import Cryptography
import Flexicast
import Objects
import Operation
import QUIC
import Reactor
import Transport
import Wire

/// The ciphers of TLS 1.3 that QUIC takes, by the names people know them by.
package enum CipherChoice: String, CaseIterable, Sendable {
    case aes128 = "aes-128-gcm"
    case aes256 = "aes-256-gcm"
    case chaCha20 = "chacha20-poly1305"

    var suite: CipherSuite {
        switch self {
        case .aes128: .aes128GCM
        case .aes256: .aes256GCM
        case .chaCha20: .chaCha20Poly1305
        }
    }
}

/// What a trial of the flow is made of.
package struct FlowTrialOptions: Sendable {
    /// Bits per second; nil is as fast as the machine can.
    package var rate: UInt64?
    /// Octets of a full packet: the UDP payload.
    package var packetSize = 1200
    /// Octets of each published item.
    package var itemSize = 1 << 20
    /// Members that acknowledge. They share the process: what they say is made up, what the source does is real.
    package var members = 1
    /// Members acknowledge after so many packets instead of after the ack delay, so that counts are exact.
    package var acknowledgeEvery: UInt64?
    /// Look in one turn of seventeen where the time goes.
    package var splitsTime = true
    /// A whole receiver in the same thread is the only member: it has a connection, takes items from the flow, grants credit
    /// and acknowledges. `members` and `acknowledgeEvery` say nothing then.
    package var isHeard = false
    /// Where the packets leave: `lo` needs no privilege.
    package var interface = "lo"
    package var group = SocketAddress(.v4(0xef0a_0001), port: 5999)
    package var cipher = CipherChoice.aes128
    package var io = IOBackendChoice.auto
    package var zeroCopy = ZeroCopyMode.auto

    package init() {}
}

/// A flow at work for the sake of measuring it: the sender that a source runs, fed with items that never end, and
/// members that acknowledge at the announced delay. All on the calling thread.
package final class FlowTrial {
    let reactor: Reactor
    let sender: FlowSender
    /// The server, unless a whole source has it.
    private var ownServer: FlowServer?
    private let meter: TurnMeter
    private let socket: UDPSocket

    private let options: FlowTrialOptions
    private let item: [UInt8]
    private var members: [TrialMember] = []
    private var nextMember = 0
    private var acknowledgedAt: Instant
    private var acknowledgedPackets: UInt64 = 0
    private let ear: TrialEar?
    private var ranges: [ClosedRange<UInt64>] = []

    /// Room for the packets of two turns.
    private static let queue: UInt64 = 1 << 20

    package var backendDescription: String { reactor.backendDescription }
    /// Whether packets leave without a copy, and why.
    package var zeroCopyDescription: String { socket.zeroCopyDescription }

    package init(_ options: FlowTrialOptions) throws {
        self.options = options
        meter = TurnMeter(isOn: options.splitsTime)
        reactor = try Reactor(io: .init(options.io))
        item = [UInt8](repeating: 0x61, count: options.itemSize)
        var udp = UDPOptions()
        udp.multicastInterface = options.interface
        udp.zeroCopy = options.zeroCopy
        let origin = try Self.address(of: options.interface)
        let socket = try reactor.udpSocket(bind: SocketAddress(origin, port: 0), options: udp)
        self.socket = socket

        var configuration = FlowConfiguration()
        configuration.suite = options.cipher.suite
        configuration.packetSize = options.packetSize
        configuration.rateCeiling = options.rate ?? 1_000_000_000_000
        configuration.rateFloor = min(configuration.rateFloor, configuration.rateCeiling)
        // What is measured is the rate itself, not the way there.
        configuration.initialRate = configuration.rateCeiling
        configuration.maximumUnsettledOctets = 64 << 20
        // The machine may be slow, or slowed down by what counts instructions.
        configuration.memberTimeout = .seconds(3600)
        // Nobody who has not listened knows which numbers were skipped.
        if !options.isHeard { configuration.skipInterval = 1 << 40 }
        // Others may try on the same group.
        var random = randomSeed()
        guard let id = FlowID(random.octets(8)) else { preconditionFailure("eight octets make an ID") }
        let flow = FlowSource(
            flowID: id,
            parameters: FlowParameters(
                source: origin, group: options.group.address, port: options.group.port, ackDelay: .milliseconds(25)),
            configuration: configuration, seed: SeededRandom(from: &random), at: reactor.now)
        sender = FlowSender(
            group: options.group, packetSize: options.packetSize, socket: socket, reactor: reactor)
        acknowledgedAt = reactor.now
        var service = FlowServerConfiguration()
        service.history = 0
        let server = FlowServer(
            flow: flow, log: memoryLog(retention: Retention(objects: 64, octets: 64 << 20)), configuration: service,
            seed: SeededRandom(from: &random),
            wallClock: wallClock(), at: reactor.now)
        if options.isHeard {
            ear = try TrialEar(options, server: server, sender: sender, origin: origin, reactor: reactor)
        } else {
            ear = nil
            ownServer = server
        }

        if let ear {
            let limit = Reactor.clock() + .seconds(20)
            while !ear.isMember {
                guard Reactor.clock() < limit else { throw EndpointError("the receiver does not hear the flow") }
                turn()
            }
        } else {
            ranges.reserveCapacity(64)
            for _ in 0..<options.members { try members.append(TrialMember(&ownServer!, at: reactor.now)) }
            sender.onTimer = { [unowned self] in
                // Nothing is lost here, however long a turn takes where the machine is slow.
                _ = acknowledgeDue()
                ownServer!.timerFired(at: self.reactor.now)
                sender.pump(&ownServer!)
            }
        }
        reactor.onTurnEnd { [unowned self] in turnEnded() }
    }

    deinit {
        ear?.close()
        reactor.close()
    }

    static func address(of interface: String) throws -> IPAddress {
        for candidate in try NetworkInterface.all() where candidate.name == interface {
            if let address = candidate.addresses.first(where: \.isIPv4) { return address }
        }
        throw EndpointError("interface \(interface) does not exist or has no IPv4 address to send from")
    }

    /// Lets the flow run until it has sent `packets` more, or until `deadline`.
    package func run(packets: UInt64 = .max, until deadline: Instant = .distantFuture) throws {
        let start = written
        while written - start < packets, reactor.now < deadline {
            turn()
            if let ear, ear.isLost { throw EndpointError("the receiver has lost the flow") }
        }
    }

    /// One turn of the source, then one of the receiver, if there is one.
    private func turn() {
        meter.measure { reactor.turn(timeout: .milliseconds(20)) }
        ear?.charged.turn()
    }

    /// Does something with the server, the source's own if there is one.
    private func withServer<R>(_ body: (inout FlowServer) -> R) -> R {
        if let ear { return ear.source.withServer(body) }
        return body(&ownServer!)
    }

    private func withFlow<R>(_ body: (inout FlowSource) -> R) -> R {
        withServer { server in
            guard let result = server.withFlow(body) else { preconditionFailure("a trial has a flow") }
            return result
        }
    }

    private func turnEnded() {
        let now = reactor.now
        let isIdle = withServer { server in
            let isIdle = server.queuedOctets == 0
            // Without members nothing is queued.
            while server.queuedOctets < Self.queue, (try? server.publish(body: item, at: now)) == true {}
            return isIdle
        }
        let hasNews = acknowledgeDue()
        guard isIdle || hasNews else { return }
        withServer { sender.pump(&$0) }
    }

    /// Every member speaks once per ack delay, one after the other.
    private func acknowledgeDue() -> Bool {
        guard !members.isEmpty else { return false }
        if let every = options.acknowledgeEvery {
            let sent = written
            guard sent - acknowledgedPackets >= every else { return false }
            acknowledgedPackets = sent
            for index in members.indices { acknowledge(index) }
            return true
        }
        let ackDelay = withFlow { $0.parameters.ackDelay }
        let share = Duration.nanoseconds(ackDelay.nanoseconds / Int64(members.count))
        var done = 0
        while reactor.now - acknowledgedAt >= share, done < members.count {
            acknowledgedAt = max(acknowledgedAt + share, reactor.now - ackDelay)
            acknowledge(nextMember)
            nextMember = (nextMember + 1) % members.count
            done += 1
        }
        return done > 0
    }

    private func acknowledge(_ index: Int) {
        let next = withFlow { $0.nextPacketNumber }
        guard next > 0 else { return }
        ranges.removeAll(keepingCapacity: true)
        ranges.append(0...(next - 1))
        members[index].acknowledge(ranges, &ownServer!, at: reactor.now)
    }

    /// What comes from now on is measured: the longest turn begins anew.
    package func begin() {
        reactor.forgetLongestTurn()
        ear?.charged.reactor.forgetLongestTurn()
    }

    /// What the source has sent, in totals: subtract two of them. Allocations and copies are those of the thread, the
    /// receiver's included.
    package var sent: EndCounts {
        var counts = EndCounts(sending: reactor.counters, cpu: Meters.threadTime - (ear?.charged.cpu ?? 0))
        meter.fill(&counts)
        counts.allocations = Meters.allocations
        counts.copied = Meters.copied
        return counts
    }

    /// Packets that the receiver has opened, and what they came by; nil without one.
    package var heard: EndCounts? {
        guard let ear else { return nil }
        var counts = ear.charged.receiving
        counts.packets = ear.opened
        return counts
    }

    /// Items that the receiver has whole, and their octets.
    package var items: (count: UInt64, octets: UInt64) { (ear?.items ?? 0, ear?.itemOctets ?? 0) }

    /// Packets that the flow has written, whether or not the kernel took them.
    package var written: UInt64 { withFlow { $0.statistics.packetsSent } }

    /// Octets of the packets that are no stream data: headers and tags.
    package var overhead: UInt64 {
        let flow = withFlow { $0.statistics }
        return flow.octetsSent - flow.newOctets - flow.octetsRepairedOnFlow
    }

    /// What members have told the source.
    package var acknowledgements: UInt64 { withFlow { $0.statistics.acknowledgements } }
    package var lossReports: UInt64 { withFlow { $0.statistics.lossReports } }

    /// Sends without a copy that the kernel has done with, and those of them that it copied all the same.
    package var zeroCopySends: (done: UInt64, copied: UInt64) {
        let usage = socket.zeroCopyUsage
        return (usage.done, usage.copied)
    }
}
