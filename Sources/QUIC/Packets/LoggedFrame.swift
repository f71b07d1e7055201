import Wire

/// A frame as a log shows it: qlog's name for it and its fields in order (draft-ietf-quic-qlog-quic-events-13 section 8.13). Made by
/// reading a payload anew, so that a connection that is not logged pays nothing.
public struct LoggedFrame: Sendable, Equatable {
    /// What a field says, by the kind that it has in the log.
    public indirect enum Value: Sendable, Equatable {
        /// A number, or octets when it is a length.
        case number(UInt64)
        /// A time, which the log gives in milliseconds.
        case microseconds(UInt64)
        /// A word of qlog's, or octets in hexadecimal.
        case text(String)
        /// Whether something is so.
        case flag(Bool)
        /// Acknowledged packet numbers.
        case ranges([ClosedRange<UInt64>])
        /// Fields of its own.
        case object([Field])
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

    /// A frame with fields that are numbers.
    public init(_ type: String, _ fields: (String, UInt64)...) {
        self.type = type
        self.fields = fields.map { Field(name: $0.0, value: .number($0.1)) }
    }

    /// Adds a field at the end.
    public mutating func add(_ name: String, _ value: Value) { fields.append(Field(name: name, value: value)) }

    /// qlog's RawInfo: octets of the whole frame, and of what it carries.
    private mutating func addRaw(_ length: Int, payload: UInt64? = nil) {
        var raw = [Field(name: "length", value: .number(UInt64(length)))]
        if let payload { raw.append(Field(name: "payload_length", value: .number(payload))) }
        add("raw", .object(raw))
    }

    /// The frames of a payload in the clear. What cannot be read ends the list as one `unknown` frame, as nobody can tell where it ends.
    /// - Parameters:
    ///   - ackDelayExponent: of the end that sent the payload (RFC 9000 section 18.2).
    ///   - extension: reads the frames that QUIC does not know.
    public static func frames(
        in payload: Span<UInt8>, ackDelayExponent: UInt8 = 3, extension: (any LoggedExtension.Type)? = nil
    ) -> [LoggedFrame] {
        var reader = ByteReader(payload)
        var frames: [LoggedFrame] = []
        while !reader.isAtEnd {
            let begin = reader.offset
            guard let type = reader.varint() else { break }
            if type == FrameType.padding {
                while reader.peek() == 0 { _ = reader.skip(1) }
                var padding = LoggedFrame("padding")
                padding.addRaw(reader.offset - begin)
                frames.append(padding)
                continue
            }
            let typeEnd = reader.offset
            if var frame = read(type, &reader, begin: begin, exponent: ackDelayExponent) {
                if frame.fields.last?.name != "raw" { frame.addRaw(reader.offset - begin) }
                frames.append(frame)
            } else if let (frame, length) = `extension`?.read(type, payload.extracting(typeEnd...)) {
                reader = ByteReader(payload)
                _ = reader.skip(typeEnd + length)
                frames.append(frame)
                frames[frames.count - 1].addRaw(reader.offset - begin)
            } else {
                var unknown = LoggedFrame("unknown", ("frame_type_bytes", type))
                unknown.addRaw(payload.count - begin)
                frames.append(unknown)
                break
            }
        }
        return frames
    }

    @_lifetime(reader: copy reader)
    private static func read(_ type: UInt64, _ reader: inout ByteReader, begin: Int, exponent: UInt8) -> LoggedFrame? {
        switch type {
        case FrameType.ping: return LoggedFrame("ping")
        case FrameType.handshakeDone: return LoggedFrame("handshake_done")
        case FrameType.ack, FrameType.ackECN:
            return readACK(LoggedFrame("ack"), hasECN: type & 1 == 1, exponent, &reader)
        case FrameType.pathACK, FrameType.pathACKECN:
            guard let path = reader.varint() else { return nil }
            return readACK(LoggedFrame("path_ack", ("path_id", path)), hasECN: type & 1 == 1, exponent, &reader)
        case FrameType.stream: return readStream(type, &reader, begin)
        case FrameType.crypto:
            guard let offset = reader.varint(), let length = reader.varint(), skip(length, &reader) else { return nil }
            var frame = LoggedFrame("crypto", ("offset", offset))
            frame.addRaw(reader.offset - begin, payload: length)
            return frame
        case FrameType.newToken:
            guard let length = reader.varint(), skip(length, &reader) else { return nil }
            var frame = LoggedFrame("new_token")
            frame.add(
                "token",
                .object([
                    Field(name: "type", value: .text("resumption")),
                    Field(name: "raw", value: .object([Field(name: "length", value: .number(length))])),
                ]))
            return frame
        case FrameType.datagram, FrameType.datagramWithLength:
            guard let length = type == FrameType.datagram ? UInt64(reader.remaining) : reader.varint(),
                skip(length, &reader)
            else { return nil }
            var frame = LoggedFrame("datagram")
            frame.addRaw(reader.offset - begin, payload: length)
            return frame
        case FrameType.newConnectionID: return readConnectionID(LoggedFrame("new_connection_id"), &reader)
        case FrameType.pathNewConnectionID:
            guard let path = reader.varint() else { return nil }
            return readConnectionID(LoggedFrame("path_new_connection_id", ("path_id", path)), &reader)
        case FrameType.pathChallenge, FrameType.pathResponse:
            guard let data = reader.uint64() else { return nil }
            var frame = LoggedFrame(type == FrameType.pathChallenge ? "path_challenge" : "path_response")
            let digits = String(data, radix: 16)
            frame.add("data", .text(String(repeating: "0", count: 16 - digits.count) + digits))
            return frame
        case FrameType.resetStream, FrameType.stopSending:
            guard let stream = reader.varint(), let code = reader.varint() else { return nil }
            var frame = LoggedFrame(
                type == FrameType.resetStream ? "reset_stream" : "stop_sending", ("stream_id", stream))
            frame.addError("unknown", code)
            guard type == FrameType.resetStream else { return frame }
            guard let size = reader.varint() else { return nil }
            frame.add("final_size", .number(size))
            return frame
        case FrameType.pathAbandon:
            guard let path = reader.varint(), let code = reader.varint() else { return nil }
            var frame = LoggedFrame("path_abandon", ("path_id", path))
            frame.addTransportError(code)
            return frame
        case FrameType.connectionClose, FrameType.connectionCloseApplication: return readClose(type, &reader)
        default: return readNumbers(type, &reader)
        }
    }

    /// Frames that are some numbers and nothing else (RFC 9000 section 19, draft-ietf-quic-multipath-21 section 4).
    @_lifetime(reader: copy reader)
    private static func readNumbers(_ type: UInt64, _ reader: inout ByteReader) -> LoggedFrame? {
        let (name, fields): (String, [String]) =
            switch type {
            case FrameType.maxData: ("max_data", ["maximum"])
            case FrameType.maxStreamData: ("max_stream_data", ["stream_id", "maximum"])
            case FrameType.maxStreamsBidirectional, FrameType.maxStreamsUnidirectional: ("max_streams", ["maximum"])
            case FrameType.dataBlocked: ("data_blocked", ["limit"])
            case FrameType.streamDataBlocked: ("stream_data_blocked", ["stream_id", "limit"])
            case FrameType.streamsBlockedBidirectional, FrameType.streamsBlockedUnidirectional:
                ("streams_blocked", ["limit"])
            case FrameType.retireConnectionID: ("retire_connection_id", ["sequence_number"])
            case FrameType.pathStatusBackup: ("path_status_backup", ["path_id", "sequence_number"])
            case FrameType.pathStatusAvailable: ("path_status_available", ["path_id", "sequence_number"])
            case FrameType.pathRetireConnectionID: ("path_retire_connection_id", ["path_id", "sequence_number"])
            case FrameType.maxPathID: ("max_path_id", ["maximum"])
            case FrameType.pathsBlocked: ("paths_blocked", ["limit"])
            case FrameType.pathCIDsBlocked: ("path_cids_blocked", ["path_id", "next_sequence_number"])
            default: ("", [])
            }
        guard !name.isEmpty else { return nil }
        var frame = LoggedFrame(name)
        switch type {
        case FrameType.maxStreamsBidirectional, FrameType.streamsBlockedBidirectional:
            frame.add("stream_type", .text("bidirectional"))
        case FrameType.maxStreamsUnidirectional, FrameType.streamsBlockedUnidirectional:
            frame.add("stream_type", .text("unidirectional"))
        default: break
        }
        for field in fields {
            guard let value = reader.varint() else { return nil }
            frame.add(field, .number(value))
        }
        return frame
    }

    @_lifetime(reader: copy reader)
    private static func readConnectionID(_ start: LoggedFrame, _ reader: inout ByteReader) -> LoggedFrame? {
        guard let sequence = reader.varint(), let retire = reader.varint(), let length = reader.uint8(),
            let id = reader.connectionID(Int(length)), reader.skip(16)
        else { return nil }
        var frame = start
        frame.add("sequence_number", .number(sequence))
        frame.add("retire_prior_to", .number(retire))
        frame.add("connection_id", .text(id.description))
        return frame
    }

    @_lifetime(reader: copy reader)
    private static func readACK(
        _ start: LoggedFrame, hasECN: Bool, _ exponent: UInt8, _ reader: inout ByteReader
    ) -> LoggedFrame? {
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
        // A delay of 2^62 is possible, and says nothing.
        frame.add("ack_delay", .microseconds(min(delay, 1 << 42) << UInt64(min(exponent, 20))))
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
    private static func readStream(_ type: UInt64, _ reader: inout ByteReader, _ begin: Int) -> LoggedFrame? {
        guard let id = reader.varint(), let offset = type & 4 != 0 ? reader.varint() : 0,
            let length = type & 2 != 0 ? reader.varint() : UInt64(reader.remaining), skip(length, &reader)
        else { return nil }
        var frame = LoggedFrame("stream", ("stream_id", id), ("offset", offset))
        if type & 1 != 0 { frame.add("fin", .flag(true)) }
        frame.addRaw(reader.offset - begin, payload: length)
        return frame
    }

    @_lifetime(reader: copy reader)
    private static func readClose(_ type: UInt64, _ reader: inout ByteReader) -> LoggedFrame? {
        let isTransport = type == FrameType.connectionClose
        guard let code = reader.varint(), let trigger = isTransport ? reader.varint() : 0,
            let length = reader.varint(), length <= UInt64(reader.remaining), let reason = reader.array(Int(length))
        else { return nil }
        var frame = LoggedFrame("connection_close")
        frame.add("error_space", .text(isTransport ? "transport" : "application"))
        if isTransport { frame.addTransportError(code) } else { frame.addError("unknown", code) }
        frame.add("reason", .text(String(decoding: reason, as: UTF8.self)))
        if trigger != 0 { frame.add("trigger_frame_type", .number(trigger)) }
        return frame
    }

    /// The code stands beside a name that says nothing.
    private mutating func addError(_ name: String, _ code: UInt64) {
        add("error", .text(name))
        if name == "unknown" { add("error_code", .number(code)) }
    }

    private mutating func addTransportError(_ code: UInt64) { addError(Self.transportErrorName(code), code) }

    /// qlog's name of a transport error (draft-ietf-quic-qlog-quic-events-13 section 8.14.1), `unknown` for other codes.
    private static func transportErrorName(_ code: UInt64) -> String {
        let names = [
            "no_error", "internal_error", "connection_refused", "flow_control_error", "stream_limit_error",
            "stream_state_error", "final_size_error", "frame_encoding_error", "transport_parameter_error",
            "connection_id_limit_error", "protocol_violation", "invalid_token", "application_error",
            "crypto_buffer_exceeded", "key_update_error", "aead_limit_reached", "no_viable_path",
        ]
        switch code {
        case 0..<UInt64(names.count): return names[Int(code)]
        case 0x100...0x1ff: return "crypto_error_0x" + String(code, radix: 16)
        default: return "unknown"
        }
    }

    @_lifetime(reader: copy reader)
    private static func skip(_ length: UInt64, _ reader: inout ByteReader) -> Bool {
        length <= UInt64(reader.remaining) && reader.skip(Int(length))
    }
}

/// Reads the frames of a protocol built on QUIC for a log.
public protocol LoggedExtension {
    /// The frame whose type was just read, and how many octets of `body` it has; nil when it is not one of the extension's or cannot
    /// be read. `body` reaches to the end of the packet.
    static func read(_ type: UInt64, _ body: Span<UInt8>) -> (frame: LoggedFrame, length: Int)?
}
