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

/// What packets of a run carry: `length` octets of a stream each, one after the other.
struct StreamRun: Sendable, Equatable {
    var id: StreamID
    /// Of the first packet.
    var offset: UInt64
    var length: Int
}

/// A packet that is neither known to have arrived nor given up, with its frames in the ledger's ring; or a run of packets
/// with consecutive numbers that left together and differ in nothing but number and offset.
struct SentPacket: Sendable {
    /// Of the first packet of a run.
    var packetNumber: UInt64
    /// Nanoseconds.
    var sentTime: Int64
    private var stream = StreamID(0)
    private var offset: UInt64 = 0
    fileprivate var frameStart: UInt32 = 0
    fileprivate var frameCount: UInt16 = 0
    private var count16: UInt16 = 1
    /// 0 for a packet that is no run.
    private var length16: UInt16 = 0
    private var size16: UInt16
    var ecn: ECN
    var ackEliciting: Bool
    var inFlight: Bool
    /// It asks what a path carries, or whether there is one: its loss is an answer.
    var isPathProbe: Bool
    /// Acknowledged, but an older packet is still open.
    fileprivate var isSettled = false

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

    /// `count` packets, of `size` octets each.
    init(_ run: StreamRun, count: Int, packetNumber: UInt64, sentAt: Instant, size: Int, ecn: ECN) {
        self.init(
            packetNumber: packetNumber, sentAt: sentAt, size: size, ackEliciting: true, inFlight: true, ecn: ecn,
            isPathProbe: false)
        precondition(run.length > 0)
        stream = run.id
        offset = run.offset
        length16 = UInt16(run.length)
        count16 = UInt16(count)
    }

    var sentAt: Instant { Instant(nanoseconds: sentTime) }
    /// Octets of each packet.
    var size: Int { Int(size16) }
    /// How many packets there are.
    var count: Int { Int(count16) }
    var lastPacketNumber: UInt64 { packetNumber + UInt64(count16 - 1) }

    /// The octets that a run carries.
    fileprivate var streamFrame: SentFrame? {
        length16 == 0 ? nil : .stream(id: stream, offset: offset, length: count * Int(length16), fin: false)
    }

    /// The first `number` packets.
    func prefix(_ number: Int) -> SentPacket {
        var part = self
        part.count16 = UInt16(min(number, count))
        return part
    }

    /// Those behind the first `number`, which are fewer than all.
    fileprivate func dropping(_ number: Int) -> SentPacket {
        var part = self
        part.packetNumber += UInt64(number)
        part.offset += UInt64(number) * UInt64(length16)
        part.count16 -= UInt16(number)
        return part
    }
}

/// The open packets of one packet number space in the order of their numbers, with what they carried.
struct SentLedger: Sendable {
    private var packets = RingQueue<SentPacket>()
    private var frames = RingQueue<SentFrame>()
    /// How many frames have left the front of the ring, modulo 2^32.
    private var framesGone: UInt32 = 0

    /// Packets held, settled ones behind an open one included.
    private(set) var count = 0
    /// The oldest packet, or run of them.
    var first: SentPacket? { packets.first }

    mutating func append(_ packet: SentPacket, frames carried: borrowing [SentFrame]) {
        var packet = packet
        packet.frameStart = framesGone &+ UInt32(frames.count)
        packet.frameCount = UInt16(clamping: carried.count)
        for index in 0..<Int(packet.frameCount) { frames.append(carried[index]) }
        packets.append(packet)
        count += packet.count
    }

    /// The oldest packet, or run of them, that is open, and whether any had to be dropped before it that were settled.
    mutating func firstOpen() -> (packet: SentPacket?, followsSettled: Bool) {
        var followsSettled = false
        while let packet = packets.first {
            guard packet.isSettled else { return (packet, followsSettled) }
            followsSettled = true
            removeFirst()
        }
        return (nil, followsSettled)
    }

    /// Drops `first` and its frames; of a run all packets, or the first `number` of them.
    mutating func removeFirst(_ number: Int = .max) {
        guard let packet = packets.first else { return }
        count -= min(number, packet.count)
        guard number >= packet.count else {
            packets[0] = packet.dropping(number)
            return
        }
        let end = packet.frameStart &+ UInt32(packet.frameCount)
        frames.removeFirst(Int(end &- framesGone))
        framesGone = end
        packets.removeFirst()
    }

    mutating func removeAll() {
        packets.removeAll()
        frames.removeAll()
        framesGone = 0
        count = 0
    }

    /// Octets of a stream that follow each other are one frame in `list`.
    func appendFrames(of packet: SentPacket, to list: inout [SentFrame]) {
        if let frame = packet.streamFrame {
            Self.append(frame, to: &list)
            return
        }
        let start = Int(packet.frameStart &- framesGone)
        for index in start..<(start + Int(packet.frameCount)) { Self.append(frames[index], to: &list) }
    }

    private static func append(_ frame: SentFrame, to list: inout [SentFrame]) {
        if case .stream(let id, let offset, let length, let fin) = frame,
            case .stream(id, let begin, let before, false)? = list.last, begin + UInt64(before) == offset
        {
            list[list.count - 1] = .stream(id: id, offset: begin, length: before + length, fin: fin)
        } else {
            list.append(frame)
        }
    }

    /// Calls `body` with every packet, or run of packets, that is still open, oldest first.
    func forEachOpen(_ body: (SentPacket) -> Void) {
        for index in 0..<packets.count where !packets[index].isSettled { body(packets[index]) }
    }

    /// Settles what `ranges` (highest first) newly acknowledge and calls `body` with each such packet or run of packets.
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
                defer { index += 1 }
                if packet.isSettled { continue }
                // What the range leaves out of a run stays open, as an entry of its own.
                if packet.packetNumber < range.lowerBound {
                    divide(index, at: range.lowerBound)
                    continue
                }
                if packet.lastPacketNumber > range.upperBound { divide(index, at: range.upperBound + 1) }
                packets[index].isSettled = true
                appendFrames(of: packets[index], to: &list)
                body(packets[index])
            }
        }
    }

    /// Makes two of a run, the second of which begins with `packetNumber`.
    private mutating func divide(_ index: Int, at packetNumber: UInt64) {
        let run = packets[index]
        let number = Int(packetNumber - run.packetNumber)
        packets[index] = run.prefix(number)
        packets.insert(run.dropping(number), at: index + 1)
    }

    /// Of what holds that number, or the next one there is.
    private func firstIndex(atOrAfter packetNumber: UInt64) -> Int {
        return (0..<packets.count).partitionPoint { packets[$0].lastPacketNumber < packetNumber }
    }
}
