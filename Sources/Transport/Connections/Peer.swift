import Cryptography
import QUIC
import Reactor
import Wire

/// One connection on the reactor: datagrams go into its machine, what the machine wants sent goes into the socket, and its
/// deadline into a timer.
///
/// `Extension` is what the connection speaks on top of QUIC: the source's or the receiver's half of Flexicast.
package final class Peer<Extension: FrameExtension> {
    package let connection: SecureConnection
    package var `extension`: Extension
    package let socket: UDPSocket
    /// Gets every event of the connection, in order. It may use the connection; it must not release the peer.
    package var onEvent: (ConnectionEvent) -> Void = { _ in }
    /// Sees each datagram on a socket of the peer's own first, and tells whether it has taken it.
    package var beforeReceive: (_ datagram: inout MutableSpan<UInt8>, _ from: SocketAddress, _ ecn: ECN) -> Bool = {
        _, _, _ in
        false
    }
    /// Runs after events were handed out, once for all of them.
    package var afterEvents: () -> Void = {}
    /// Runs after events and before packets are written.
    package var beforeTransmit: () -> Void = {}

    private unowned let reactor: Reactor
    private var timer: TimerHandle?
    private var isPumping = false
    private let scratch: PeerScratch

    /// The least time between two looks at a deadline that has passed with nothing to show for it: the machine waits for something
    /// else than time, and the loop must not spin meanwhile.
    private static var spinGuard: Duration { .milliseconds(1) }

    /// `scratch`: what connections of one thread may share.
    package init(
        _ connection: SecureConnection, extension: Extension, socket: UDPSocket, reactor: Reactor,
        scratch: PeerScratch = PeerScratch()
    ) {
        self.scratch = scratch
        self.connection = connection
        self.extension = `extension`
        self.socket = socket
        self.reactor = reactor
        timer = reactor.timer { [unowned self] in
            self.connection.timerFired(at: self.reactor.now)
            self.pump()
        }
    }

    /// Takes a datagram; `pump` must follow, once for the batch.
    package func receive(
        _ datagram: inout MutableSpan<UInt8>, from: SocketAddress, to: SocketAddress?, ecn: ECN, at now: Instant
    ) {
        connection.receive(&datagram, from: from, to: to, ecn: ecn, at: now, extension: &`extension`)
    }

    /// Has `pump` run before this turn ends, once for all batches that came in it.
    package func pumpSoon() { timer?.schedule(at: reactor.now) }

    /// Hands out events and does no more: `pump` must follow.
    package func handOutEvents() {
        guard !isPumping else { return }
        isPumping = true
        defer { isPumping = false }
        drainEvents()
    }

    /// Hands out events, sends what can be sent and sets the timer.
    package func pump() {
        guard !isPumping else { return }
        isPumping = true
        defer { isPumping = false }
        let now = reactor.now
        drainEvents()
        beforeTransmit()
        transmit(at: now)
        drainEvents()
        guard !connection.machine.isDrained else {
            timer = nil
            return
        }
        let deadline = connection.nextDeadline
        timer?.schedule(at: deadline > now ? deadline : now + Self.spinGuard)
        if let gathered = connection.machine.gatherDeadline(at: now) { reactor.gather(until: gathered) }
    }

    private func transmit(at now: Instant) {
        // Who has one datagram to send may have more, and many when there were several.
        var least = 1
        var isDone = false
        while !isDone {
            // All of them in one room are one run, and as many as one segmented send carries.
            let size = connection.machine.datagramSize
            let most = min(max(least, connection.machine.datagramsReady), UDPSocket.segments(of: size))
            scratch.outgoing.removeAll(keepingCapacity: true)
            let room = min(
                (most - 1) * size + connection.machine.datagramRoom(at: now), UDPSocket.datagramLimit)
            let result: Bool? = socket.withSendBuffer(room) { buffer in
                connection.transmit(into: &buffer, most: most, datagrams: &scratch.outgoing, at: now)
            }
            // Nil: the socket has no room.
            guard let result else { return }
            isDone = result
            enqueue()
            least = most == least ? most * 4 : 1
        }
    }

    /// Datagrams that are alike leave as one run, the last of them possibly shorter.
    private func enqueue() {
        let outgoing = scratch.outgoing
        var begin = 0
        while begin < outgoing.count {
            let first = outgoing[begin]
            var count = first.count
            var end = begin + 1
            while end < outgoing.count, count % first.segment == 0, outgoing[end].isLike(first),
                outgoing[end].segment == first.segment || outgoing[end].count < first.segment
            {
                count += outgoing[end].count
                end += 1
            }
            socket.enqueue(count, segment: first.segment, to: first.to, from: first.from?.address, ecn: first.ecn)
            begin = end
        }
    }

    private func drainEvents() {
        guard let first = connection.nextEvent(at: reactor.now) else { return }
        onEvent(first)
        while let event = connection.nextEvent(at: reactor.now) { onEvent(event) }
        afterEvents()
    }
}

/// A peer that has its socket to itself, as a client's does.
extension Peer: DatagramHandler {
    package func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
        for index in 0..<batch.count {
            let from = batch.source(index)
            let to = batch.local(index)
            let ecn = batch.ecn(index)
            var bytes = batch[index]
            if beforeReceive(&bytes, from, ecn) { continue }
            receive(&bytes, from: from, to: to, ecn: ecn, at: reactor.now)
        }
        pump()
    }

    package func socketBecameWritable(_ socket: UDPSocket) { pump() }
}

/// Memory that a connection needs while it writes and not between: one for all of a listener's.
package final class PeerScratch {
    /// Reused, so that a datagram allocates nothing.
    fileprivate var outgoing: [OutgoingDatagram] = []
}

extension OutgoingDatagram {
    /// Whether both may leave in one segmented send, but for their sizes.
    fileprivate func isLike(_ other: OutgoingDatagram) -> Bool {
        to == other.to && from == other.from && ecn == other.ecn && !isProbe && !other.isProbe
    }
}

extension SecureConnection {
    /// Packets that were no use: not authentic, malformed, or more than may wait for their keys.
    package var packetsRejected: UInt64 { counters.unopened + counters.ignored + counters.bufferOverflows }
}
