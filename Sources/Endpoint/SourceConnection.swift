import Flexicast
import QUIC
import Wire

/// One receiver, as the source sees it.
final class SourceConnection {
    let peer: Peer<SourceSession>
    /// Flexicast was negotiated: items go under the flow's stream IDs.
    var isShared = false
    var isConnected = false
    /// Set while it listens to the flow.
    var member: MemberID?
    var qlog: Qlog?
    /// It was told of the flow, and is told of changes.
    var isAnnounced = false
    /// The flow is kept alive for this connection.
    var isAttached = false
    /// The flow comes to it in copies, not from a group.
    var isReplicated = false
    /// When it is tried on the group again, as long as it is sent copies because the group did not reach it.
    var groupTrial: GroupTrial?
    /// It had joined the flow when last looked at.
    var hadJoined = false
    /// All streams of the flow from this one on are sent to it, on one way or the other.
    var firstStream = StreamID(0)
    /// Items that wait for a stream, on a connection with its own numbering.
    private var waiting: [[UInt8]] = []
    private var waitingOctets = 0
    /// A stream for the first of them that was opened when the connection held too much to take it.
    private var opened: StreamID?
    private var lastCredit: (octets: UInt64, streams: UInt64) = (0, 0)

    /// How much may gather for one receiver before it counts as too slow and is let go: items under way, and the octets that
    /// are held for them, which other connections and the history share as long as they hold the same items.
    struct Patience {
        var items = 4096
        var octets = 64 << 20
        /// Octets that do not count as gathered at the most, because they were given at once.
        var octetsGiven = 128 << 20
        /// How long it may be more: a feed may have thousands of new items at once, and who takes them in time is not slow.
        var time = Duration.seconds(10)
    }

    private struct Unfinished {
        var items = 0
        var octets = 0
    }

    private let patience: Patience
    /// What it was given at once, as history or when it left the flow.
    private var given = Unfinished()
    /// Since when more is unfinished than may be.
    private var crowdedSince: Instant?

    init(_ peer: Peer<SourceSession>, patience: Patience = Patience()) {
        self.peer = peer
        self.patience = patience
    }

    private var unfinished: Unfinished {
        let connection = peer.connection
        return Unfinished(
            items: connection.machine.sendingStreamCount + waiting.count,
            octets: connection.machine.sendingOctets + waitingOctets)
    }

    /// To be asked whenever something was sent or has arrived.
    func isTooSlow(at now: Instant) -> Bool {
        let unfinished = unfinished
        guard
            unfinished.items > patience.items + given.items || unfinished.octets > patience.octets + given.octets
        else {
            crowdedSince = nil
            return false
        }
        let since = crowdedSince ?? now
        crowdedSince = since
        return now - since >= patience.time
    }

    /// What is unfinished now is no sign of slowness.
    func expectUnfinished() {
        let unfinished = unfinished
        given.items = max(given.items, unfinished.items)
        given.octets = min(patience.octetsGiven, max(given.octets, unfinished.octets))
    }

    /// Sends a whole item on the unicast path. `stream` is its number in the flow.
    func send(_ bytes: [UInt8], stream: StreamID?) {
        if isShared, let stream {
            peer.connection.machine.sendStreamRange(
                stream, bytes: bytes, range: 0..<UInt64(bytes.count), fin: true, counted: true)
        } else {
            waiting.append(bytes)
            waitingOctets += bytes.count
            sendWaiting()
        }
    }

    /// Opens streams for what waits, as far as the receiver and the connection's memory allow. To be called again when either
    /// allows more: at `ConnectionEvent.writable`.
    func sendWaiting() {
        var sent = 0
        while sent < waiting.count, let stream = try? opened ?? peer.connection.machine.openStream(bidirectional: false)
        {
            opened = stream
            guard (try? peer.connection.machine.write(stream, waiting[sent], fin: true)) != nil else { break }
            opened = nil
            waitingOctets -= waiting[sent].count
            sent += 1
        }
        waiting.removeFirst(sent)
    }

    /// The receiver's flow control credit, when it has changed since the last call.
    func newCredit() -> (octets: UInt64, streams: UInt64)? {
        let connection = peer.connection
        let credit = (octets: connection.machine.sendCredit, streams: connection.machine.streamCredit)
        guard credit != lastCredit else { return nil }
        lastCredit = credit
        return credit
    }
}

/// When to find out whether the group reaches a receiver by now: less and less often as long as it is in vain.
struct GroupTrial {
    private let first: Duration
    private var pause: Duration
    private(set) var next: Instant

    /// It was found out now that the group does not reach the receiver.
    /// - Parameter spread: 0 to 1, at random, so that receivers that were cut off together are not tried together.
    init(first: Duration, at now: Instant, spread: Double) {
        self.first = first
        pause = first
        next = now + first * (1 - spread / 4)
    }

    /// It was found out once more.
    mutating func failed(at now: Instant, spread: Double) {
        // A receiver that the group has reached for a while has lost it anew.
        let isNew = now - next > pause
        self.pause = isNew ? first : min(pause * 2, first * 16)
        next = now + pause * (1 - spread / 4)
    }
}
