import Flexicast
import QUIC

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
    /// It had joined the flow when last looked at.
    var hadJoined = false
    /// All streams of the flow from this one on are sent to it, on one way or the other.
    var firstStream = StreamID(0)
    /// Items that wait for a stream, on a connection with its own numbering.
    private var waiting: [[UInt8]] = []
    private var lastCredit: (octets: UInt64, streams: UInt64) = (0, 0)

    /// Items that it was given at once, as history or when it left the flow, and which do not count as gathered.
    private var expectedUnfinished = 0
    /// Items that may be on their way to one receiver; one that lets more gather is too slow and is let go.
    static let maxUnfinished = 4096

    init(_ peer: Peer<SourceSession>) { self.peer = peer }

    private var unfinished: Int { peer.connection.machine.sendingStreamCount + waiting.count }
    var isTooSlow: Bool { unfinished > Self.maxUnfinished + expectedUnfinished }

    /// So many as are unfinished now are no sign of slowness.
    func expectUnfinished() { expectedUnfinished = max(expectedUnfinished, unfinished) }

    /// Sends a whole item on the unicast path. `stream` is its number in the flow.
    func send(_ bytes: [UInt8], stream: StreamID?) {
        if isShared, let stream {
            peer.connection.machine.sendStreamRange(
                stream, bytes: bytes, range: 0..<UInt64(bytes.count), fin: true, counted: true)
        } else {
            waiting.append(bytes)
            sendWaiting()
        }
    }

    /// Opens streams for what waits, as far as the receiver allows.
    func sendWaiting() {
        var sent = 0
        while sent < waiting.count, let stream = try? peer.connection.machine.openStream(bidirectional: false) {
            // A stream just opened takes any amount.
            try? peer.connection.machine.write(stream, waiting[sent], fin: true)
            sent += 1
        }
        waiting.removeFirst(sent)
    }

    /// The receiver's flow control credit, when it has changed since the last call.
    func newCredit() -> (octets: UInt64, streams: UInt64)? {
        let machine = peer.connection.machine
        let credit = (octets: machine.sendCredit, streams: machine.streamCredit)
        guard credit != lastCredit else { return nil }
        lastCredit = credit
        return credit
    }
}
