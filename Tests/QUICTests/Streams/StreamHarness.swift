import Testing
import Wire

@testable import QUIC

/// One packet's worth of frames, as it goes over the channel and as its sender remembers it.
struct TestPacket: Sendable {
    var bytes: [UInt8]
    var frames: [SentFrame]
}

extension StreamTable {
    /// The next packet of at most `capacity` octets; nil when there is nothing to send.
    mutating func packet(_ capacity: Int = 1200) -> TestPacket? {
        guard wantsToSend else { return nil }
        var bytes = [UInt8](repeating: 0, count: capacity)
        var frames: [SentFrame] = []
        var used = 0
        do {
            var span = bytes.mutableSpan
            var writer = ByteWriter(&span)
            writeControlFrames(into: &writer, sent: &frames)
            writeStreamFrames(into: &writer, sent: &frames)
            used = writer.offset
        }
        bytes.removeLast(capacity - used)
        return used == 0 ? nil : TestPacket(bytes: bytes, frames: frames)
    }

    /// Everything there is to send now.
    mutating func packets(_ capacity: Int = 1200) -> [TestPacket] {
        var out: [TestPacket] = []
        while let packet = packet(capacity) { out.append(packet) }
        return out
    }

    /// Parses the frames of a packet and takes them in.
    mutating func receive(_ bytes: [UInt8], origin: StreamOrigin = .unicast) throws {
        var reader = ByteReader(bytes.span)
        while let type = reader.varint() {
            switch type {
            case 0x04:
                try resetReceived(
                    StreamID(reader.varint()!), code: reader.varint()!, finalSize: reader.varint()!, origin: origin)
            case 0x05: try stopSendingReceived(StreamID(reader.varint()!), code: reader.varint()!)
            case 0x08...0x0f:
                let id = StreamID(reader.varint()!)
                let offset = type & 4 == 0 ? 0 : reader.varint()!
                let length = type & 2 == 0 ? reader.remaining : Int(reader.varint()!)
                let octets = try unwrap(reader.array(length), "a STREAM frame longer than its packet")
                try streamReceived(id, offset: offset, bytes: octets.span, fin: type & 1 != 0, origin: origin)
            case 0x10: maxDataReceived(reader.varint()!)
            case 0x11: try maxStreamDataReceived(StreamID(reader.varint()!), reader.varint()!)
            case 0x12, 0x13: try maxStreamsReceived(bidirectional: type == 0x12, reader.varint()!)
            case 0x14: dataBlockedReceived(reader.varint()!)
            case 0x15: try streamDataBlockedReceived(StreamID(reader.varint()!), reader.varint()!)
            case 0x16, 0x17: try streamsBlockedReceived(bidirectional: type == 0x16, reader.varint()!)
            default: Issue.record("unknown frame type \(type)")
            }
        }
    }

    mutating func receive(
        _ id: StreamID, _ offset: UInt64, _ bytes: [UInt8], fin: Bool = false, _ origin: StreamOrigin = .unicast
    ) throws {
        try streamReceived(id, offset: offset, bytes: bytes.span, fin: fin, origin: origin)
    }

    mutating func acknowledge(_ packet: TestPacket) { for frame in packet.frames { frameAcknowledged(frame) } }
    mutating func lose(_ packet: TestPacket) { for frame in packet.frames { frameLost(frame) } }

    mutating func allEvents() -> [Event] {
        var out: [Event] = []
        while let event = nextEvent() { out.append(event) }
        return out
    }
}

/// Sends everything both ends have, with nothing lost, until neither has more.
func exchange(_ a: inout StreamTable, _ b: inout StreamTable) throws {
    while a.wantsToSend || b.wantsToSend {
        let fromA = a.packets()
        let fromB = b.packets()
        if fromA.isEmpty, fromB.isEmpty {
            Issue.record("wants to send, and does not")
            return
        }
        for packet in fromA { try b.receive(packet.bytes) }
        for packet in fromB { try a.receive(packet.bytes) }
        for packet in fromA { a.acknowledge(packet) }
        for packet in fromB { b.acknowledge(packet) }
    }
}

extension StreamLimits {
    static let generous = StreamLimits(
        initialMaxData: 1 << 20, initialMaxStreamDataBidiLocal: 1 << 18, initialMaxStreamDataBidiRemote: 1 << 18,
        initialMaxStreamDataUni: 1 << 18, initialMaxStreamsBidi: 100, initialMaxStreamsUni: 100)

    static func small(data: UInt64, stream: UInt64, streams: UInt64) -> StreamLimits {
        StreamLimits(
            initialMaxData: data, initialMaxStreamDataBidiLocal: stream, initialMaxStreamDataBidiRemote: stream,
            initialMaxStreamDataUni: stream, initialMaxStreamsBidi: streams, initialMaxStreamsUni: streams)
    }
}

/// A client and a server that know each other's limits.
func makePair(
    client: StreamLimits = .generous, server: StreamLimits = .generous, shared: Bool = false
) -> (client: StreamTable, server: StreamTable) {
    var left = StreamTable(role: .client, local: client)
    var right = StreamTable(role: .server, local: server)
    left.peerParameters(server)
    right.peerParameters(client)
    left.sharedStreamSpace = shared
    right.sharedStreamSpace = shared
    return (left, right)
}

/// The content of a stream is known from its number, so that misplaced octets show.
func content(of id: StreamID, _ range: Range<Int>) -> [UInt8] {
    range.map { UInt8(truncatingIfNeeded: ($0 &+ 1) &* 31 &+ Int(id.rawValue) &* 17 &+ $0 >> 8) }
}

/// Stream `index` of the server's unidirectional streams, the space that flows share.
func shared(_ index: UInt64) -> StreamID { StreamID(initiator: .server, bidirectional: false, index: index) }

/// The code of the transport error that `body` throws; nil when it throws none.
func errorCode(_ body: () throws -> Void) -> TransportError.Code? {
    do {
        try body()
        return nil
    } catch {
        return (error as? TransportError)?.code
    }
}

struct Missing: Error {}

/// `value`, or a failure of the test. `#require` cannot be given a call that mutates.
func unwrap<Value>(
    _ value: Value?, _ comment: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation
) throws -> Value {
    guard let value else {
        Issue.record(comment ?? "nil", sourceLocation: sourceLocation)
        throw Missing()
    }
    return value
}

// Macros cannot hold spans.
extension ReceiveBuffer {
    mutating func take(_ bytes: [UInt8], at offset: UInt64) -> Int { insert(bytes.span, at: offset) }
}

extension CryptoStream {
    mutating func received(_ bytes: [UInt8], at offset: UInt64) throws { try received(bytes.span, at: offset) }
}

// Streams that have no head of their own.
extension StreamTable {
    mutating func write(_ id: StreamID, _ bytes: [UInt8], fin: Bool) throws(StreamError) {
        try write(id, StreamOctets(bytes), fin: fin)
    }

    mutating func sendRange(_ id: StreamID, bytes: [UInt8], range: Range<UInt64>, fin: Bool, counted: Bool) {
        sendRange(id, StreamOctets(bytes), range: range, fin: fin, counted: counted)
    }
}
