import Cryptography
import Flexicast
import QUIC
import Reactor
import Wire

/// A multicast flow on the reactor: what `FlowSource` writes is sealed in runs of equal packets, each run in one call, and
/// leaves as one segmented send.
final class FlowSender {
    var flow: FlowSource
    let socket: UDPSocket
    let group: SocketAddress
    /// Gets what the flow asks of the connections; keys are dealt with here.
    var onAction: (FlowAction) -> Void = { _ in }
    /// Octets of UDP payload handed to the socket.
    private(set) var octetsSent: UInt64 = 0
    /// Measures where the time goes, in `flexicast perf`.
    var meter: FlowMeter?

    private unowned let reactor: Reactor
    private var timer: TimerHandle?
    private var keys: [UInt64: SealingKey] = [:]
    // Reused, so that a packet allocates nothing.
    private var plans: [PacketPlan] = []
    private let packetSize: Int

    /// Packets in one segmented send at the most: 65 507 octets of payload bound it.
    private static var maxRun: Int { 52 }

    init(_ flow: FlowSource, group: SocketAddress, socket: UDPSocket, reactor: Reactor) {
        self.flow = flow
        self.group = group
        self.socket = socket
        self.reactor = reactor
        packetSize = flow.configuration.packetSize
        plans.reserveCapacity(Self.maxRun)
        timer = reactor.timer { [unowned self] in
            self.flow.timerFired(at: self.reactor.now)
            pump()
        }
    }

    /// Does what the flow asks for, sends what is due and sets the timer.
    func pump() {
        drainActions()
        while sendRun() {}
        drainActions()
        let now = reactor.now
        let deadline = flow.nextDeadline
        // A deadline that has passed with nothing to send waits for something else than time.
        timer?.schedule(at: deadline > now ? deadline : now + .milliseconds(1))
    }

    func drainActions() {
        while let action = flow.nextAction() {
            switch action {
            case .installKey(let key): keys[key.generation] = SealingKey(suite: key.suite, secret: key.secret)
            case .dropKey(let generation): keys[generation] = nil
            default: onAction(action)
            }
        }
    }

    /// Writes, seals and queues one run. False when nothing more can be sent now.
    private func sendRun() -> Bool {
        let now = reactor.now
        let run = min(Self.maxRun, UDPSocket.datagramLimit / packetSize)
        plans.removeAll(keepingCapacity: true)
        let written: Int? = socket.withSendBuffer(run * packetSize) { buffer in
            meter?.start()
            let count = write(into: &buffer, run: run, at: now)
            meter?.stop(.flow)
            seal(&buffer)
            meter?.stop(.cryptography)
            return count
        }
        guard let count = written, count > 0 else { return false }
        octetsSent += UInt64(count)
        socket.enqueue(count, segment: packetSize, to: group)
        return true
    }

    /// Fills the buffer with full packets; a shorter one ends the run.
    private func write(into buffer: inout MutableSpan<UInt8>, run: Int, at now: Instant) -> Int {
        var writer = ByteWriter(buffer._mutatingExtracting(0..<buffer.count))
        flow.transmitRun(of: run, into: &writer, plans: &plans, at: now)
        return writer.offset
    }

    /// One call per key generation; a run holds more than one only where the key changes.
    private func seal(_ buffer: inout MutableSpan<UInt8>) {
        var first = 0
        while first < plans.count {
            let generation = plans[first].keyGeneration
            var end = first + 1
            while end < plans.count, plans[end].keyGeneration == generation { end += 1 }
            guard let key = keys[generation] else { preconditionFailure("no key of generation \(generation)") }
            key.seal(&buffer, plans.span.extracting(first..<end))
            first = end
        }
    }
}
