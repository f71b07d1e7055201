import Objects
import QUIC
import Wire

/// One receiver, as the source sees it.
struct Seat: Sendable {
    enum Phase: Sendable {
        case handshaking
        /// A receiver that does not speak flexicast: its streams have numbers of their own.
        case plain
        /// Its streams have the flow's numbers.
        case flexicast(SourceSession)
        case closed
    }

    /// How the flow comes to the receiver, if at all.
    enum Way: Sendable {
        /// It was told of no flow.
        case none
        /// From the group, which is kept alive for it.
        case group
        /// In copies, as long as it has joined.
        case copies
    }

    /// A part of a stream that was begun on the flow, to be sent on the receiver's connection.
    struct Repair: Sendable {
        var stream: StreamID
        var octets: StreamOctets
        var range: Range<UInt64>
        var fin: Bool
        var counted: Bool
        /// Nothing more of it is sent, and the receiver is to forget what it has.
        var isOver = false
    }

    /// What the receiver has said on its control stream (docs/objects.md).
    enum Position: Sendable {
        /// Nothing yet. All from this number on is published since it connected.
        case awaited(from: UInt64)
        case stated(StatedPosition)
        /// Nothing in time.
        case unstated
    }

    /// Parts that are read from the log's store for it.
    enum Reading: Sendable {
        case none
        case asked
        /// They are there, or gone. It had its turn before, and may be handed what was read without another.
        case ended
    }

    // In this order the small ones fill what is left between the large: there is one of these for each receiver.
    var remote = SocketAddress(.v4(0), port: 0)
    var epoch: UInt32
    var isTaken = false
    var isTouched = false
    var isValidated = false
    var way = Way.none
    var reading = Reading.none
    var local: IPAddress?
    /// The flow is kept alive for it, and where it is sent copies they go out.
    var isAttached = false
    /// Set while the flow counts on it.
    var member: MemberID?
    /// Whose member it became, wherever it has moved since. It says nothing while it is none.
    var account = FlowAccount(.v4(0))
    /// Whose turn it is handed parts in, where that is bounded: the account of the last address that has answered.
    var payer = FlowAccount(.v4(0))
    var phase = Phase.handshaking
    /// When it is tried on the group again, since the group did not reach it; remembered while it is tried.
    @Rare var trial: GroupTrial?
    /// The last that the flow put out: what it can take may count for a while, as long as it is connected.
    @Rare var evictedMember: MemberID?
    var cursor = DeliveryCursor()
    var repairs: [Repair] = []
    /// What the flow has sent it and its connection was not charged for yet.
    var charge = FlowCharge(octets: 0, streams: 0)
    var position = Position.awaited(from: 0)
    /// Where its control stream was broken off inside a message, or cannot be read on.
    @Rare var decoder: ControlDecoder?
    /// Messages to be written on its control stream.
    var messages: [UInt8] = []
    /// A report of its reception is taken from then on; nil as long as it sent none.
    @Rare var reportDue: Instant?
    /// When it is told the source's clock again.
    var clockDue = Instant.distantFuture
    /// What it had when it stated its position; nil where that is nothing from `firstPart` on.
    @Rare var settledBefore: Cursor?
    /// Parts that it was given whole because it would hear pieces of them on the flow.
    @Rare var given: Cursor?
    /// All parts from this one on that it did not have are sent to it, one way or the other; unknown until it has stated its
    /// position.
    var firstPart = UInt64.max
    /// All parts from this one on come to it, on the flow or from its cursor; nil until that begins. What it says later of
    /// its position bears on those before alone.
    var servedFrom: UInt64?
    /// The sequence numbers of parts on streams that have other numbers, which a receiver has that does not speak flexicast: while
    /// there are objects with a lifetime.
    var streams: [StreamID: UInt64] = [:]
    /// The next of `FlowServer.ended` that it has to be rid of.
    var nextEnded: UInt64 = 0
    /// The number of the next datagram that it is to be handed on its connection.
    var nextDatagram: UInt64 = 0
    var lastCredit: (octets: UInt64, streams: UInt64) = (0, 0)
    /// A stream for the next part that was opened when the connection held too much to take it.
    var openedStream: StreamID?

    init(epoch: UInt32) { self.epoch = epoch }

    /// Which objects it wants on its connection.
    var wants: Wants { if case .stated(let stated) = position { stated.wants } else { .everything } }

    var isConnected: Bool {
        switch phase {
        case .plain, .flexicast: true
        case .handshaking, .closed: false
        }
    }

    /// Does something with the session of a receiver that has one.
    @discardableResult
    mutating func withSession<R, E: Error>(_ body: (inout SourceSession) throws(E) -> R) throws(E) -> R? {
        guard case .flexicast(var session) = phase else { return nil }
        phase = .handshaking
        defer { phase = .flexicast(session) }
        return try body(&session)
    }

    func hasJoined(_ flow: FlowID) -> Bool {
        if case .flexicast(let session) = phase { session.hasJoined(flow) } else { false }
    }
}

/// When to find out whether the group reaches a receiver by now: less and less often as long as it is in vain.
public struct GroupTrial: Sendable {
    private let first: Duration
    private var pause: Duration
    /// When to find out next.
    public private(set) var next: Instant

    /// It was found out now that the group does not reach the receiver.
    /// `spread`: 0 to 1, at random, so that receivers that were cut off together are not tried together.
    public init(first: Duration, at now: Instant, spread: Double) {
        self.first = first
        pause = first
        next = now + first * (1 - spread / 4)
    }

    /// It was found out once more.
    public mutating func failed(at now: Instant, spread: Double) {
        // A receiver that the group has reached for a while has lost it anew.
        let isNew = now - next > pause
        self.pause = isNew ? first : min(pause * 2, first * 16)
        next = now + pause * (1 - spread / 4)
    }
}
