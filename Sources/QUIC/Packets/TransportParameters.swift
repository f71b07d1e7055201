import Wire

/// Transport parameters of one endpoint (RFC 9000 section 18.2, RFC 9221 section 3, draft-ietf-quic-multipath-21 section 2.1).
public struct TransportParameters: Sendable, Equatable {
    /// Server: the destination of the client's first Initial packet, which it has to repeat (RFC 9000 section 7.3).
    public var originalDestinationConnectionID: ConnectionID?
    /// The longest silence before the endpoint takes the connection for dead, whole milliseconds on the wire; zero: none.
    public var maxIdleTimeout: Duration = .zero
    /// Server: the 16 octets that a stateless reset for the handshake's connection ID ends with (RFC 9000 section 10.3).
    public var statelessResetToken: [UInt8]?
    /// Octets of UDP payload the endpoint is willing to receive.
    public var maxUDPPayloadSize: UInt64 = 65527
    /// Octets of all streams together that the endpoint takes before its first MAX_DATA (RFC 9000 section 4.1).
    public var initialMaxData: UInt64 = 0
    /// Octets that the endpoint takes on each bidirectional stream that it opens, before MAX_STREAM_DATA.
    public var initialMaxStreamDataBidiLocal: UInt64 = 0
    /// Octets that the endpoint takes on each bidirectional stream that its peer opens, before MAX_STREAM_DATA.
    public var initialMaxStreamDataBidiRemote: UInt64 = 0
    /// Octets that the endpoint takes on each unidirectional stream that its peer opens, before MAX_STREAM_DATA.
    public var initialMaxStreamDataUni: UInt64 = 0
    /// Bidirectional streams that the peer may open before MAX_STREAMS (RFC 9000 section 4.6).
    public var initialMaxStreamsBidi: UInt64 = 0
    /// Unidirectional streams that the peer may open before MAX_STREAMS (RFC 9000 section 4.6).
    public var initialMaxStreamsUni: UInt64 = 0
    /// What the endpoint's ACK Delay fields are shifted left by to give microseconds, at most 20.
    public var ackDelayExponent: UInt8 = 3
    /// The longest that the endpoint means to hold an acknowledgement back; whole milliseconds on the wire, below 2^14.
    public var maxAckDelay: Duration = .milliseconds(25)
    /// The peer is not to change its own address during the connection, but for preferred_address (RFC 9000 section 9).
    public var disableActiveMigration = false
    /// Connection IDs of its peer's that the endpoint stores, at least 2 (RFC 9000 section 5.1.1).
    public var activeConnectionIDLimit: UInt64 = 2
    /// The source of the endpoint's first Initial packet, which its peer compares (RFC 9000 section 7.3).
    public var initialSourceConnectionID: ConnectionID?
    /// Server: the source of its Retry packet, if it sent one (RFC 9000 section 7.3).
    public var retrySourceConnectionID: ConnectionID?
    /// Largest DATAGRAM frame accepted, in octets; 0: none.
    public var maxDatagramFrameSize: UInt64 = 0
    /// Present: multipath is supported.
    public var initialMaxPathID: UInt64?
    /// Parameters of extensions, and unknown ones, by identifier.
    public var others: [UInt64: [UInt8]] = [:]

    /// What an endpoint that sends no parameters says: RFC 9000 section 18.2's defaults.
    public init() {}

    private enum ID {
        static let originalDestinationConnectionID: UInt64 = 0x00
        static let maxIdleTimeout: UInt64 = 0x01
        static let statelessResetToken: UInt64 = 0x02
        static let maxUDPPayloadSize: UInt64 = 0x03
        static let initialMaxData: UInt64 = 0x04
        static let initialMaxStreamDataBidiLocal: UInt64 = 0x05
        static let initialMaxStreamDataBidiRemote: UInt64 = 0x06
        static let initialMaxStreamDataUni: UInt64 = 0x07
        static let initialMaxStreamsBidi: UInt64 = 0x08
        static let initialMaxStreamsUni: UInt64 = 0x09
        static let ackDelayExponent: UInt64 = 0x0a
        static let maxAckDelay: UInt64 = 0x0b
        static let disableActiveMigration: UInt64 = 0x0c
        static let preferredAddress: UInt64 = 0x0d
        static let activeConnectionIDLimit: UInt64 = 0x0e
        static let initialSourceConnectionID: UInt64 = 0x0f
        static let retrySourceConnectionID: UInt64 = 0x10
        static let maxDatagramFrameSize: UInt64 = 0x20
        static let initialMaxPathID: UInt64 = 0x3e
    }

    /// The most octets of peer parameters that are read.
    static let maxEncodedLength = 4096

    /// The value of the quic_transport_parameters extension (RFC 9001 section 8.2). What has its default value is left out.
    public func encoded() -> [UInt8] {
        [UInt8].written(capacity: Self.maxEncodedLength) { writer in
            writer.parameter(ID.originalDestinationConnectionID, originalDestinationConnectionID?.octets)
            writer.parameter(ID.maxIdleTimeout, UInt64(maxIdleTimeout.nanoseconds / 1_000_000), default: 0)
            writer.parameter(ID.statelessResetToken, statelessResetToken)
            writer.parameter(ID.maxUDPPayloadSize, maxUDPPayloadSize, default: 65527)
            writer.parameter(ID.initialMaxData, initialMaxData, default: 0)
            writer.parameter(ID.initialMaxStreamDataBidiLocal, initialMaxStreamDataBidiLocal, default: 0)
            writer.parameter(ID.initialMaxStreamDataBidiRemote, initialMaxStreamDataBidiRemote, default: 0)
            writer.parameter(ID.initialMaxStreamDataUni, initialMaxStreamDataUni, default: 0)
            writer.parameter(ID.initialMaxStreamsBidi, initialMaxStreamsBidi, default: 0)
            writer.parameter(ID.initialMaxStreamsUni, initialMaxStreamsUni, default: 0)
            writer.parameter(ID.ackDelayExponent, UInt64(ackDelayExponent), default: 3)
            writer.parameter(ID.maxAckDelay, UInt64(maxAckDelay.nanoseconds / 1_000_000), default: 25)
            writer.parameter(ID.disableActiveMigration, disableActiveMigration ? [] : nil)
            writer.parameter(ID.activeConnectionIDLimit, activeConnectionIDLimit, default: 2)
            writer.parameter(ID.initialSourceConnectionID, initialSourceConnectionID?.octets)
            writer.parameter(ID.retrySourceConnectionID, retrySourceConnectionID?.octets)
            writer.parameter(ID.maxDatagramFrameSize, maxDatagramFrameSize, default: 0)
            if let initialMaxPathID { writer.parameter(ID.initialMaxPathID, initialMaxPathID, default: nil) }
            for id in others.keys.sorted() { writer.parameter(id, others[id]) }
        }
    }

    /// Reads what `sender` sent. Throws TRANSPORT_PARAMETER_ERROR for any of section 18.2's reasons (RFC 9000 section 7.4);
    /// what it does not know it keeps and disregards (RFC 9000 section 7.4.2).
    public init(_ octets: [UInt8], from sender: Role) throws(TransportError) {
        func refuse(_ why: String) -> TransportError { TransportError(.transportParameterError, why) }
        guard octets.count <= Self.maxEncodedLength else {
            throw refuse("more than \(Self.maxEncodedLength) octets of parameters")
        }
        var reader = ByteReader(octets.span)
        var seen: Set<UInt64> = []
        while !reader.isAtEnd {
            guard let id = reader.varint(), let length = reader.varint(), length <= UInt64(reader.remaining),
                let value = reader.array(Int(length))
            else { throw refuse("truncated parameter") }
            guard seen.insert(id).inserted else { throw refuse("parameter 0x\(String(id, radix: 16)) twice") }
            try set(id, value, from: sender)
        }
    }

    private mutating func set(_ id: UInt64, _ value: [UInt8], from sender: Role) throws(TransportError) {
        func refuse(_ why: String) -> TransportError {
            TransportError(.transportParameterError, "parameter 0x\(String(id, radix: 16)): \(why)")
        }
        func number(_ range: ClosedRange<UInt64> = 0...Varint.max) throws(TransportError) -> UInt64 {
            var reader = ByteReader(value.span)
            guard let number = reader.varint(), reader.isAtEnd else { throw refuse("not one variable-length integer") }
            guard range.contains(number) else { throw refuse("\(number) is outside \(range)") }
            return number
        }
        func connectionID() throws(TransportError) -> ConnectionID {
            guard let id = ConnectionID(value) else { throw refuse("connection ID of \(value.count) octets") }
            return id
        }
        func serverOnly() throws(TransportError) {
            if sender == .client { throw refuse("only a server may send it") }
        }
        switch id {
        case ID.originalDestinationConnectionID:
            try serverOnly()
            originalDestinationConnectionID = try connectionID()
        case ID.maxIdleTimeout:
            // More than a year and a year are the same to us, and fit every unit.
            maxIdleTimeout = .milliseconds(Int64(min(try number(), 31_536_000_000)))
        case ID.statelessResetToken:
            try serverOnly()
            guard value.count == 16 else { throw refuse("token of \(value.count) octets") }
            statelessResetToken = value
        case ID.maxUDPPayloadSize: maxUDPPayloadSize = try number(1200...Varint.max)
        case ID.initialMaxData: initialMaxData = try number()
        case ID.initialMaxStreamDataBidiLocal: initialMaxStreamDataBidiLocal = try number()
        case ID.initialMaxStreamDataBidiRemote: initialMaxStreamDataBidiRemote = try number()
        case ID.initialMaxStreamDataUni: initialMaxStreamDataUni = try number()
        case ID.initialMaxStreamsBidi: initialMaxStreamsBidi = try number(0...1 << 60)
        case ID.initialMaxStreamsUni: initialMaxStreamsUni = try number(0...1 << 60)
        case ID.ackDelayExponent: ackDelayExponent = UInt8(try number(0...20))
        case ID.maxAckDelay: maxAckDelay = .milliseconds(Int64(try number(0...(1 << 14 - 1))))
        case ID.disableActiveMigration:
            guard value.isEmpty else { throw refuse("must be empty") }
            disableActiveMigration = true
        case ID.preferredAddress:
            try serverOnly()
            // 4 + 2 + 16 + 2 octets of addresses, an ID and a token; we do not move to it (RFC 9000 section 9.6).
            guard value.count >= 25, (1...20).contains(value[24]), value.count == 25 + Int(value[24]) + 16 else {
                throw refuse("malformed preferred address")
            }
        case ID.activeConnectionIDLimit: activeConnectionIDLimit = try number(2...Varint.max)
        case ID.initialSourceConnectionID: initialSourceConnectionID = try connectionID()
        case ID.retrySourceConnectionID:
            try serverOnly()
            retrySourceConnectionID = try connectionID()
        case ID.maxDatagramFrameSize: maxDatagramFrameSize = try number()
        case ID.initialMaxPathID: initialMaxPathID = try number(0...(1 << 32 - 1))
        default: others[id] = value
        }
    }
}

extension ByteWriter {
    @_lifetime(self: copy self)
    fileprivate mutating func parameter(_ id: UInt64, _ value: [UInt8]?) {
        guard let value else { return }
        varint(id)
        varint(UInt64(value.count))
        octets(value.span)
    }

    @_lifetime(self: copy self)
    fileprivate mutating func parameter(_ id: UInt64, _ value: UInt64, default usual: UInt64?) {
        guard value != usual else { return }
        varint(id)
        varint(UInt64(Varint.length(value)))
        varint(value)
    }
}
