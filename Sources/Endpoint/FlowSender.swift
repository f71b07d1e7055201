import Cryptography
import Flexicast
import QUIC
import Reactor
import Wire

/// A multicast flow on the reactor: what `FlowSource` writes is sealed in runs of equal packets, each run in one call, and
/// leaves as one segmented send, to the group and to each receiver that is sent copies.
final class FlowSender {
    private var writer: FlowWriter
    var flow: FlowSource {
        _read { yield writer.flow }
        _modify { yield &writer.flow }
    }
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
    /// Packets of one segmented send.
    private let run: Int
    /// Packets of all segmented sends that one system call takes.
    private let longestBatch: Int
    /// Packets that are written at a time: the most if the last time there were so many.
    private var batch: Int
    private let packetSize: Int

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
        writer = FlowWriter(flow)
        self.group = group
        self.groupSocket = groupSocket
        self.copySocket = copySocket
        self.reactor = reactor
        packetSize = flow.configuration.packetSize
        run = UDPSocket.segments(of: packetSize)
        longestBatch = UDPSocket.batchLimit / (run * packetSize) * run
        batch = run
        timer = reactor.timer { [unowned self] in
            writer.flow.timerFired(at: self.reactor.now)
            pump()
        }
    }

    /// Does what the flow asks for, sends what is due and sets the timer.
    func pump() {
        drainActions()
        copies.removeAll(keepingCapacity: true)
        collectCopies(&copies)
        let now = reactor.now
        if let socket = copies.isEmpty ? groupSocket : copySocket {
            let before = octetsSent
            while copies.isEmpty ? sendRuns(socket, at: now) : sendCopies(copies, socket, at: now) {}
            batch = octetsSent - before >= UInt64(longestBatch * packetSize) ? longestBatch : run
        }
        drainActions()
        timer?.schedule(at: writer.nextDeadline(after: now))
    }

    func drainActions() {
        while let action = writer.flow.nextAction() {
            switch action {
            case .installKey(let key): writer.install(key)
            case .dropKey(let generation): writer.dropKey(generation)
            default: onAction(action)
            }
        }
    }

    /// Writes, seals and queues a batch for the group. False when nothing more can be sent now.
    private func sendRuns(_ socket: UDPSocket, at now: Instant) -> Bool {
        let written: Int? = socket.withSendBuffer(batch * packetSize) { buffer in
            writer.write(into: &buffer, packets: batch, at: now)
        }
        guard let count = written, count > 0, let group else { return false }
        octetsSent += UInt64(count)
        socket.enqueue(count, segment: packetSize, to: group)
        return true
    }

    /// The same for receivers of copies, and for the group if there is one.
    private func sendCopies(_ copies: [Copy], _ socket: UDPSocket, at now: Instant) -> Bool {
        // When the kernel takes no more, packets stay in the flow, where they are not lost: it slows down to what leaves.
        guard socket.hasRoom(forRuns: copies.count), groupSocket?.isWritable ?? true else { return false }
        let written: Int? = socket.withSendBuffer(run * packetSize) { buffer in
            let count = writer.write(into: &buffer, packets: run, at: now)
            if let group, count > 0 {
                octetsSent += UInt64(count)
                _ = groupSocket?.send(copyOf: buffer.span.extracting(0..<count), segment: packetSize, to: group)
            }
            return count
        }
        guard let count = written, count > 0 else { return false }
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
}
