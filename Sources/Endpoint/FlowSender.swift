import Cryptography
import Flexicast
import QUIC
import Reactor
import Wire

/// A multicast flow on the reactor: what `FlowSource` writes is sealed in runs of equal packets, each run in one call, and
/// leaves as one segmented send, to the group and to each receiver that is sent copies.
final class FlowSender {
    var flow: FlowSource
    /// Where the packets go once for all, and the socket that they leave by; nil when there are only copies.
    let group: SocketAddress?
    private let groupSocket: UDPSocket?
    /// The connections' socket, which copies leave by: a NAT on the way lets nothing else in.
    private let copySocket: UDPSocket?

    /// A receiver that is sent copies of every packet.
    struct Copy {
        var to: SocketAddress
        var from: IPAddress?
    }

    /// Names the receivers of copies, each time before packets are written.
    var collectCopies: (inout [Copy]) -> Void = { _ in }
    private var copies: [Copy] = []
    /// Gets what the flow asks of the connections; keys are dealt with here.
    var onAction: (FlowAction) -> Void = { _ in }
    /// Octets of UDP payload sent to the group, and in copies.
    private(set) var octetsSent: UInt64 = 0
    private(set) var octetsCopied: UInt64 = 0
    /// Whether packets to the group leave without a copy, and why; nil without a group.
    var zeroCopyDescription: String? { groupSocket?.zeroCopyDescription }

    private unowned let reactor: Reactor
    private var timer: TimerHandle?
    private var keys: [UInt64: SealingKey] = [:]
    // Reused, so that a packet allocates nothing.
    private var runs: [RunPlan] = []
    private let packetSize: Int

    /// Packets in one segmented send at the most: 65 507 octets of payload bound it.
    private static var maxRun: Int { 52 }

    /// A flow to `group`, and with `copySocket` to some receivers one by one.
    convenience init(
        _ flow: FlowSource, group: SocketAddress, socket: UDPSocket, copySocket: UDPSocket? = nil, reactor: Reactor
    ) {
        self.init(flow, group: group, groupSocket: socket, copySocket: copySocket, reactor: reactor)
    }

    /// A flow without a group: every receiver is sent copies.
    convenience init(_ flow: FlowSource, copySocket: UDPSocket, reactor: Reactor) {
        self.init(flow, group: nil, groupSocket: nil, copySocket: copySocket, reactor: reactor)
    }

    private init(
        _ flow: FlowSource, group: SocketAddress?, groupSocket: UDPSocket?, copySocket: UDPSocket?, reactor: Reactor
    ) {
        self.flow = flow
        self.group = group
        self.groupSocket = groupSocket
        self.copySocket = copySocket
        self.reactor = reactor
        packetSize = flow.configuration.packetSize
        runs.reserveCapacity(Self.maxRun)
        timer = reactor.timer { [unowned self] in
            self.flow.timerFired(at: self.reactor.now)
            pump()
        }
    }

    /// Does what the flow asks for, sends what is due and sets the timer.
    func pump() {
        drainActions()
        copies.removeAll(keepingCapacity: true)
        collectCopies(&copies)
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
        guard let socket = copies.isEmpty ? groupSocket : copySocket else { return false }
        // When the kernel takes no more, packets stay in the flow, where they are not lost: it slows down to what leaves.
        guard copies.isEmpty || (socket.hasRoom(forRuns: copies.count) && groupSocket?.isWritable ?? true) else {
            return false
        }
        let now = reactor.now
        let run = min(Self.maxRun, UDPSocket.datagramLimit / packetSize)
        runs.removeAll(keepingCapacity: true)
        let written: Int? = socket.withSendBuffer(run * packetSize) { buffer in
            let count = write(into: &buffer, run: run, at: now)
            seal(&buffer)
            if let group, !copies.isEmpty, count > 0 {
                _ = groupSocket?.send(copyOf: buffer.span.extracting(0..<count), segment: packetSize, to: group)
            }
            return count
        }
        guard let count = written, count > 0 else { return false }
        if let group {
            octetsSent += UInt64(count)
            if copies.isEmpty { socket.enqueue(count, segment: packetSize, to: group) }
        }
        for (index, copy) in copies.enumerated() {
            if index == 0 {
                socket.enqueue(count, segment: packetSize, to: copy.to, from: copy.from)
            } else {
                socket.enqueueAgain(to: copy.to, from: copy.from)
            }
        }
        octetsCopied += UInt64(count * copies.count)
        return true
    }

    /// Fills the buffer with full packets; a shorter one ends the run.
    private func write(into buffer: inout MutableSpan<UInt8>, run: Int, at now: Instant) -> Int {
        var writer = ByteWriter(&buffer)
        flow.transmitRun(of: run, into: &writer, runs: &runs, at: now)
        return writer.offset
    }

    /// One call for each stretch of consecutive numbers: nearly always one for all.
    private func seal(_ buffer: inout MutableSpan<UInt8>) {
        for run in runs {
            guard let key = keys[run.keyGeneration] else {
                preconditionFailure("no key of generation \(run.keyGeneration)")
            }
            key.seal(&buffer, run)
        }
    }
}
