import Cryptography
import Flexicast
import QUIC
import Reactor
import Wire

/// A flow's way out of the reactor: what `FlowSource` writes is sealed in runs of equal packets, each run in one call, and
/// leaves as one segmented send, to the group and to each receiver that is sent copies.
package final class FlowSender {
    private var sealer = FlowSealer()
    /// Where the packets go once for all, and the socket that they leave by; nil when there are only copies.
    package let group: SocketAddress?
    private let groupSocket: UDPSocket?
    /// The connections' socket, which copies leave by: a NAT on the way lets nothing else in.
    private let copySocket: UDPSocket?

    /// Receivers that are sent copies of every packet.
    private var copies: [FlowCopy] = []
    /// The flow has something to do: `FlowServer.timerFired`, then `pump`.
    package var onTimer: () -> Void = {}
    /// A key of the flow is about to be used, for a log.
    package var onKey: (FlowKey) -> Void = { _ in }
    /// Sees packets in the clear before they are sealed, for a log.
    package var onRun: ((RunPlan, Span<UInt8>) -> Void)? {
        get { sealer.onRun }
        set { sealer.onRun = newValue }
    }
    /// Octets of UDP payload sent to the group, and in copies.
    package private(set) var octetsSent: UInt64 = 0
    package private(set) var octetsCopied: UInt64 = 0
    /// Whether packets to the group leave without a copy, and why; nil without a group.
    package var zeroCopyDescription: String? { groupSocket?.zeroCopyDescription }

    private unowned let reactor: Reactor
    private var timer: TimerHandle?
    /// Packets of one segmented send.
    private let run: Int
    /// Packets of all segmented sends that one system call takes.
    private let longestBatch: Int
    /// Packets that are written at a time: the most if the last time there were so many.
    private var batch: Int
    private let packetSize: Int

    /// For a flow to `group`, and with `copySocket` to some receivers one by one.
    package convenience init(
        group: SocketAddress, packetSize: Int, socket: UDPSocket, copySocket: UDPSocket? = nil, reactor: Reactor
    ) {
        self.init(
            group: group, packetSize: packetSize, groupSocket: socket, copySocket: copySocket, reactor: reactor)
    }

    /// For a flow without a group: every receiver is sent copies.
    package convenience init(packetSize: Int, copySocket: UDPSocket, reactor: Reactor) {
        self.init(group: nil, packetSize: packetSize, groupSocket: nil, copySocket: copySocket, reactor: reactor)
    }

    private init(
        group: SocketAddress?, packetSize: Int, groupSocket: UDPSocket?, copySocket: UDPSocket?, reactor: Reactor
    ) {
        self.group = group
        self.groupSocket = groupSocket
        self.copySocket = copySocket
        self.reactor = reactor
        self.packetSize = packetSize
        run = UDPSocket.segments(of: packetSize)
        longestBatch = UDPSocket.batchLimit / (run * packetSize) * run
        batch = run
        timer = reactor.timer { [unowned self] in onTimer() }
    }

    /// Sends what the server's flow has to send now and sets the timer. The server must have a flow.
    package func pump(_ server: inout FlowServer) {
        let now = reactor.now
        server.settle(at: now)
        while let change = server.nextKeyChange() {
            sealer.take(change)
            if case .install(let key) = change { onKey(key) }
        }
        server.collectCopies(into: &copies)
        if let socket = copies.isEmpty ? groupSocket : copySocket {
            let before = octetsSent
            while copies.isEmpty ? sendRuns(&server, socket, at: now) : sendCopies(&server, socket, at: now) {}
            batch = octetsSent - before >= UInt64(longestBatch * packetSize) ? longestBatch : run
        }
        server.settle(at: now)
        schedule(at: server.nextWake(after: now))
    }

    /// Sets the timer, where something else than the flow has moved the server's deadline.
    package func schedule(at deadline: Instant) { timer?.schedule(at: deadline) }

    /// Writes and seals packets for `socket`, after the keys they take are in place.
    private func write(
        _ server: inout FlowServer, into buffer: inout MutableSpan<UInt8>, packets count: Int, at now: Instant
    ) -> Int {
        server.withFlow { sealer.write(&$0, into: &buffer, packets: count, at: now) } ?? 0
    }

    /// Writes, seals and queues a batch for the group. False when nothing more can be sent now.
    private func sendRuns(_ server: inout FlowServer, _ socket: UDPSocket, at now: Instant) -> Bool {
        let written: Int? = socket.withSendBuffer(batch * packetSize) { buffer in
            write(&server, into: &buffer, packets: batch, at: now)
        }
        guard let count = written, count > 0, let group else { return false }
        octetsSent += UInt64(count)
        socket.enqueue(count, segment: packetSize, to: group)
        return true
    }

    /// The same for receivers of copies, and for the group if there is one.
    private func sendCopies(_ server: inout FlowServer, _ socket: UDPSocket, at now: Instant) -> Bool {
        // When the kernel takes no more, packets stay in the flow, where they are not lost: it slows down to what leaves.
        guard socket.hasRoom(forRuns: copies.count), groupSocket?.isWritable ?? true else { return false }
        let written: Int? = socket.withSendBuffer(run * packetSize) { buffer in
            let count = write(&server, into: &buffer, packets: run, at: now)
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
