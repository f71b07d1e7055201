import Wire

/// What a sent packet carried, as far as its loss or arrival matters to somebody. Octets are not kept: whoever owns
/// them sends them again.
enum SentFrame: Sendable, Equatable {
    /// An ACK for packet number space `space`, or a PATH_ACK for `pathID`, whose largest number was `largest`.
    case ack(space: UInt8, pathID: UInt64, largest: UInt64)
    case crypto(offset: UInt64, length: Int)
    case stream(id: StreamID, offset: UInt64, length: Int, fin: Bool)
    case resetStream(StreamID)
    case stopSending(StreamID)
    case maxData
    case maxStreamData(StreamID)
    case maxStreams(bidirectional: Bool)
    case dataBlocked
    case streamDataBlocked(StreamID)
    case streamsBlocked(bidirectional: Bool)
    case newConnectionID(sequence: UInt64)
    case retireConnectionID(sequence: UInt64)
    case handshakeDone
    case newToken
    case pathResponse
    case pathChallenge
    case ping
    case datagram
    case extensionFrame(key: UInt64, version: UInt64)
    case mtuProbe(packetNumber: UInt64)
}

/// A packet that is neither known to have arrived nor given up: 32 octets, with its frames in the ledger's ring.
struct SentPacket: Sendable {
    var packetNumber: UInt64
    /// Nanoseconds.
    var sentTime: Int64
    fileprivate var frameStart: UInt32 = 0
    fileprivate var frameCount: UInt16 = 0
    private var size16: UInt16
    var ecn: ECN
    var ackEliciting: Bool
    var inFlight: Bool
    /// It asks what a path carries, or whether there is one: its loss is an answer.
    var isPathProbe: Bool
    /// Acknowledged, but an older packet is still open.
    fileprivate(set) var isSettled = false

    init(
        packetNumber: UInt64, sentAt: Instant, size: Int, ackEliciting: Bool, inFlight: Bool, ecn: ECN,
        isPathProbe: Bool
    ) {
        self.packetNumber = packetNumber
        sentTime = sentAt.nanoseconds
        size16 = UInt16(clamping: size)
        self.ackEliciting = ackEliciting
        self.inFlight = inFlight
        self.ecn = ecn
        self.isPathProbe = isPathProbe
    }

    var sentAt: Instant { Instant(nanoseconds: sentTime) }
    /// Octets of the packet.
    var size: Int { Int(size16) }
}

/// The open packets of one packet number space in the order of their numbers, with what they carried.
struct SentLedger: Sendable {
    private var packets = Ring<SentPacket>()
    private var frames = Ring<SentFrame>()
    /// How many frames have left the front of the ring, modulo 2^32.
    private var framesGone: UInt32 = 0

    /// Packets held, settled ones behind an open one included.
    var count: Int { packets.count }
    var first: SentPacket? { packets.first }

    mutating func append(_ packet: SentPacket, frames carried: borrowing [SentFrame]) {
        var packet = packet
        packet.frameStart = framesGone &+ UInt32(frames.count)
        packet.frameCount = UInt16(clamping: carried.count)
        for index in 0..<Int(packet.frameCount) { frames.append(carried[index]) }
        packets.append(packet)
    }

    /// Drops the oldest packet and its frames.
    mutating func removeFirst() {
        guard let packet = packets.first else { return }
        let end = packet.frameStart &+ UInt32(packet.frameCount)
        frames.removeFirst(Int(end &- framesGone))
        framesGone = end
        packets.removeFirst()
    }

    mutating func removeAll() {
        packets.removeAll()
        frames.removeAll()
        framesGone = 0
    }

    /// Octets of a stream that follow each other are one frame in `list`.
    func appendFrames(of packet: SentPacket, to list: inout [SentFrame]) {
        let start = Int(packet.frameStart &- framesGone)
        for index in start..<(start + Int(packet.frameCount)) {
            let frame = frames[index]
            if case .stream(let id, let offset, let length, let fin) = frame,
                case .stream(id, let begin, let before, false)? = list.last, begin + UInt64(before) == offset
            {
                list[list.count - 1] = .stream(id: id, offset: begin, length: before + length, fin: fin)
            } else {
                list.append(frame)
            }
        }
    }

    /// Calls `body` with every packet that is still open, oldest first.
    func forEachOpen(_ body: (SentPacket) -> Void) {
        for index in 0..<packets.count where !packets[index].isSettled { body(packets[index]) }
    }

    /// Settles what `ranges` (highest first) newly acknowledge and calls `body` with each such packet.
    ///
    /// Packets three behind the largest acknowledged one are lost and gone, so at most two settled packets are met
    /// again by a later acknowledgement: the cost is that of the ranges and of the newly acknowledged packets.
    mutating func acknowledge(
        _ ranges: [ClosedRange<UInt64>], frames list: inout [SentFrame], _ body: (SentPacket) -> Void
    ) {
        guard let oldest = packets.first?.packetNumber else { return }
        for range in ranges {
            if range.upperBound < oldest { return }
            var index = firstIndex(atOrAfter: range.lowerBound)
            while index < packets.count {
                let packet = packets[index]
                if packet.packetNumber > range.upperBound { break }
                if !packet.isSettled {
                    packets[index].isSettled = true
                    appendFrames(of: packet, to: &list)
                    body(packet)
                }
                index += 1
            }
        }
    }

    private func firstIndex(atOrAfter packetNumber: UInt64) -> Int {
        var low = 0
        var high = packets.count
        while low < high {
            let middle = (low + high) / 2
            if packets[middle].packetNumber < packetNumber { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
