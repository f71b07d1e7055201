import Wire

/// A message on the control stream: the first bidirectional stream that the client opens (docs/objects.md, "Control
/// stream").
public enum ControlMessage: Sendable, Equatable {
    /// POSITION, of a client: where it goes on, and what it wants.
    case position(PositionMessage)
    /// REPORT, of a client: what it says of its reception.
    case report(ReportMessage)
    /// LOG, of a source: what it has, and from where it serves the client.
    case log(LogMessage)
    /// GAP, of a source: numbers that the client waits for in vain.
    case gap(Gap)
    /// The log is at its end: no part has this number or a higher one, nor ever will.
    case end(UInt64)

    /// Which side sends a message.
    public enum Sender: Sendable {
        /// The receiver, whose end of the connection is the client's.
        case client
        /// The side that has the log.
        case source
    }

    /// The numbers that types of message have on the wire. Who does not know an even type must stop; an odd one is
    /// skipped.
    enum Kind {
        static let position: UInt64 = 0x00
        static let report: UInt64 = 0x01
        static let log: UInt64 = 0x02
        /// Reserved for sending a client to another source.
        static let redirect: UInt64 = 0x03
        static let gap: UInt64 = 0x04
        static let end: UInt64 = 0x06

        static func mayBeSkipped(_ kind: UInt64) -> Bool { kind & 1 == 1 }
    }

    /// The message as it stands on the stream. Throws when a field holds what it may not, or all of them are more than
    /// `ObjectLimits.messageOctets`.
    public func encoded() throws(ObjectsError) -> [UInt8] {
        var body: [UInt8] = []
        let kind: UInt64
        switch self {
        case .position(let message):
            kind = Kind.position
            try message.append(to: &body)
        case .report(let message):
            kind = Kind.report
            message.append(to: &body)
        case .log(let message):
            kind = Kind.log
            try message.append(to: &body)
        case .gap(let gap):
            kind = Kind.gap
            try gap.check()
            body.appendVarint(gap.first)
            body.appendVarint(gap.count)
            body.appendVarint(min(gap.reason.rawValue, Varint.max))
        case .end(let sequence):
            kind = Kind.end
            try Self.check(end: sequence)
            body.appendVarint(sequence)
        }
        guard body.count <= ObjectLimits.messageOctets else {
            throw .tooLong(.message, limit: UInt64(ObjectLimits.messageOctets))
        }
        var out: [UInt8] = []
        out.reserveCapacity(body.count + 5)
        out.appendVarint(kind)
        out.appendVarint(UInt64(body.count))
        out.append(contentsOf: body)
        return out
    }

    private static func check(end sequence: UInt64) throws(ObjectsError) {
        guard sequence <= ObjectLimits.sequences else {
            throw .value(.end, field: "sequence number", sequence, wanted: "at most 2^60")
        }
    }

    /// The message of this kind in `body`, all of which it takes up.
    static func parse(kind: UInt64, _ body: Span<UInt8>) throws(ObjectsError) -> ControlMessage {
        var reader = ByteReader(body)
        let message: ControlMessage
        switch kind {
        case Kind.position: message = .position(try PositionMessage(&reader))
        case Kind.report: message = .report(try ReportMessage(&reader))
        case Kind.log: message = .log(try LogMessage(&reader))
        case Kind.gap:
            let gap = Gap(
                first: try reader.number(.gap), count: try reader.number(.gap),
                reason: Gap.Reason(rawValue: try reader.number(.gap)))
            try gap.check()
            message = .gap(gap)
        case Kind.end:
            let sequence = try reader.number(.end)
            try check(end: sequence)
            message = .end(sequence)
        default: throw .unknownMessage(kind)
        }
        guard reader.isAtEnd else { throw .surplus(message.element, reader.remaining) }
        return message
    }

    /// How errors name it.
    var element: ObjectsError.Element {
        switch self {
        case .position: .position
        case .report: .report
        case .log: .log
        case .gap: .gap
        case .end: .end
        }
    }
}
