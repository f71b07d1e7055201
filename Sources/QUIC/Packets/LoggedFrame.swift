import Wire

/// A frame as a log shows it: qlog's name for it and its fields in order (draft-ietf-quic-qlog-quic-events section 8.13). Made by
/// reading a payload anew, so that a connection that is not logged pays nothing.
public struct LoggedFrame: Sendable, Equatable {
    /// What a field says, by the kind that it has in the log.
    public enum Value: Sendable, Equatable {
        /// A number, or octets when it is a length.
        case number(UInt64)
        /// A word of qlog's, or octets in hexadecimal.
        case text(String)
        /// Whether something is so.
        case flag(Bool)
        /// Acknowledged packet numbers.
        case ranges([ClosedRange<UInt64>])
    }

    /// One field of a frame.
    public struct Field: Sendable, Equatable {
        /// qlog's name for it.
        public var name: String
        /// What it says.
        public var value: Value
    }

    /// qlog's name of the frame's type.
    public var type: String
    /// In the order of qlog's definition of the frame.
    public var fields: [Field] = []

    private init(_ type: String, _ fields: (String, UInt64)...) {
        self.type = type
        self.fields = fields.map { Field(name: $0.0, value: .number($0.1)) }
    }

    private mutating func add(_ name: String, _ value: Value) { fields.append(Field(name: name, value: value)) }

    /// The frames of a payload in the clear. What cannot be read, and what an extension brought, ends the list as one `unknown`
    /// frame.
    public static func frames(in payload: Span<UInt8>) -> [LoggedFrame] {
        var reader = ByteReader(payload)
        var frames: [LoggedFrame] = []
        while !reader.isAtEnd {
            let begin = reader.offset
            guard let type = reader.varint() else { break }
            if type == FrameType.padding {
                while reader.peek() == 0 { _ = reader.skip(1) }
                frames.append(LoggedFrame("padding", ("payload_length", UInt64(reader.offset - begin))))
                continue
            }
            guard let frame = read(type, &reader) else {
                var unknown = LoggedFrame("unknown", ("frame_type_bytes", type))
                unknown.add("raw_length", .number(UInt64(payload.count - begin)))
                frames.append(unknown)
                break
            }
            frames.append(frame)
        }
        return frames
    }

    @_lifetime(reader: copy reader)
    private static func read(_ type: UInt64, _ reader: inout ByteReader) -> LoggedFrame? {
        switch type {
        case FrameType.ping: return LoggedFrame("ping")
        case FrameType.handshakeDone: return LoggedFrame("handshake_done")
        case FrameType.ack, FrameType.ackECN: return readACK(LoggedFrame("ack"), hasECN: type & 1 == 1, &reader)
        case FrameType.pathACK, FrameType.pathACKECN:
            guard let path = reader.varint() else { return nil }
            return readACK(LoggedFrame("path_ack", ("path_id", path)), hasECN: type & 1 == 1, &reader)
        case FrameType.stream: return readStream(type, &reader)
        case FrameType.crypto:
            guard let offset = reader.varint(), let length = reader.varint(), skip(length, &reader) else { return nil }
            return LoggedFrame("crypto", ("offset", offset), ("length", length))
        case FrameType.newToken:
            guard let length = reader.varint(), skip(length, &reader) else { return nil }
            return LoggedFrame("new_token", ("length", length))
        case FrameType.datagram:
            let length = UInt64(reader.remaining)
            _ = reader.skip(reader.remaining)
            return LoggedFrame("datagram", ("length", length))
        case FrameType.datagramWithLength:
            guard let length = reader.varint(), skip(length, &reader) else { return nil }
            return LoggedFrame("datagram", ("length", length))
        case FrameType.newConnectionID:
            guard let sequence = reader.varint(), let retire = reader.varint(), let length = reader.uint8(),
                let id = reader.connectionID(Int(length)), reader.skip(16)
            else { return nil }
            var frame = LoggedFrame("new_connection_id", ("sequence_number", sequence), ("retire_prior_to", retire))
            frame.add("connection_id", .text(id.description))
            return frame
        case FrameType.pathChallenge, FrameType.pathResponse:
            guard let data = reader.uint64() else { return nil }
            var frame = LoggedFrame(type == FrameType.pathChallenge ? "path_challenge" : "path_response")
            frame.add("data", .text(String(data, radix: 16)))
            return frame
        case FrameType.connectionClose, FrameType.connectionCloseApplication: return readClose(type, &reader)
        default: return readNumbers(type, &reader)
        }
    }

    @_lifetime(reader: copy reader)
    private static func readNumbers(_ type: UInt64, _ reader: inout ByteReader) -> LoggedFrame? {
        let (name, fields): (String, [String]) =
            switch type {
            case FrameType.resetStream: ("reset_stream", ["stream_id", "error_code", "final_size"])
            case FrameType.stopSending: ("stop_sending", ["stream_id", "error_code"])
            case FrameType.maxData: ("max_data", ["maximum"])
            case FrameType.maxStreamData: ("max_stream_data", ["stream_id", "maximum"])
            case FrameType.maxStreamsBidirectional, FrameType.maxStreamsUnidirectional: ("max_streams", ["maximum"])
            case FrameType.dataBlocked: ("data_blocked", ["limit"])
            case FrameType.streamDataBlocked: ("stream_data_blocked", ["stream_id", "limit"])
            case FrameType.streamsBlockedBidirectional, FrameType.streamsBlockedUnidirectional:
                ("streams_blocked", ["limit"])
            case FrameType.retireConnectionID: ("retire_connection_id", ["sequence_number"])
            default: ("", [])
            }
        guard !name.isEmpty else { return nil }
        var frame = LoggedFrame(name)
        for field in fields {
            guard let value = reader.varint() else { return nil }
            frame.add(field, .number(value))
        }
        return frame
    }

    @_lifetime(reader: copy reader)
    private static func readACK(_ start: LoggedFrame, hasECN: Bool, _ reader: inout ByteReader) -> LoggedFrame? {
        guard let largest = reader.varint(), let delay = reader.varint(), let count = reader.varint(),
            let first = reader.varint(), first <= largest
        else { return nil }
        var frame = start
        var smallest = largest - first
        var ranges = [smallest...largest]
        for _ in 0..<min(count, 256) {
            guard let gap = reader.varint(), let length = reader.varint(), smallest >= gap + 2,
                smallest - gap - 2 >= length
            else { return nil }
            let upper = smallest - gap - 2
            smallest = upper - length
            ranges.append(smallest...upper)
        }
        frame.add("ack_delay", .number(delay))
        frame.add("acked_ranges", .ranges(ranges))
        if hasECN {
            for name in ["ect0", "ect1", "ce"] {
                guard let value = reader.varint() else { return nil }
                frame.add(name, .number(value))
            }
        }
        return frame
    }

    @_lifetime(reader: copy reader)
    private static func readStream(_ type: UInt64, _ reader: inout ByteReader) -> LoggedFrame? {
        guard let id = reader.varint(), let offset = type & 4 != 0 ? reader.varint() : 0,
            let length = type & 2 != 0 ? reader.varint() : UInt64(reader.remaining), skip(length, &reader)
        else { return nil }
        var frame = LoggedFrame("stream", ("stream_id", id), ("offset", offset), ("length", length))
        if type & 1 != 0 { frame.add("fin", .flag(true)) }
        return frame
    }

    @_lifetime(reader: copy reader)
    private static func readClose(_ type: UInt64, _ reader: inout ByteReader) -> LoggedFrame? {
        let isTransport = type == FrameType.connectionClose
        guard let code = reader.varint(), !isTransport || reader.varint() != nil, let length = reader.varint(),
            length <= UInt64(reader.remaining), let reason = reader.array(Int(length))
        else { return nil }
        var frame = LoggedFrame("connection_close", ("error_code", code))
        frame.add("error_space", .text(isTransport ? "transport" : "application"))
        frame.add("reason", .text(String(decoding: reason, as: UTF8.self)))
        return frame
    }

    @_lifetime(reader: copy reader)
    private static func skip(_ length: UInt64, _ reader: inout ByteReader) -> Bool {
        length <= UInt64(reader.remaining) && reader.skip(Int(length))
    }
}
