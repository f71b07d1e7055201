import QUIC
import Testing
import Wire

/// What a server must answer to each violation, frame by frame: RFC 9000 sections 12.4, 19 and 20.1, in the order of
/// the h3spec list.
@Suite("A violation closes the connection with its own code")
struct ConnectionErrorTests {
    struct Violation: Sendable, CustomTestStringConvertible {
        var name: String
        var payload: [UInt8]
        var level: ProtectionLevel = .application
        var code: TransportError.Code
        var testDescription: String { name }
    }

    static let violations: [Violation] = [
        .init(name: "no frames", payload: [], code: .protocolViolation),
        .init(name: "unknown frame", payload: [0x21], code: .frameEncodingError),
        .init(name: "unknown long frame", payload: [0x60, 0x00], code: .frameEncodingError),
        .init(name: "frame type not shortest", payload: [0x40, 0x01], code: .protocolViolation),
        .init(name: "ACK of unsent packet", payload: [0x02, 0x7f, 0xff, 0, 0, 0], code: .protocolViolation),
        .init(name: "ACK below zero", payload: [0x02, 0x00, 0, 0, 1], code: .frameEncodingError),
        .init(name: "truncated ACK", payload: [0x02, 0x00, 0], code: .frameEncodingError),
        .init(
            name: "ACK with a count it cannot hold", payload: [0x02, 0x05, 0, 0x7f, 0xff, 0], code: .frameEncodingError),
        .init(name: "RESET_STREAM on a send-only stream", payload: [0x04, 0x03, 0, 0], code: .streamStateError),
        .init(name: "STOP_SENDING on a receive-only stream", payload: [0x05, 0x02, 0], code: .streamStateError),
        .init(name: "STOP_SENDING on a stream never opened", payload: [0x05, 0x01, 0], code: .streamStateError),
        .init(name: "STREAM_DATA_BLOCKED on a send-only stream", payload: [0x15, 0x03, 5], code: .streamStateError),
        .init(name: "STREAM on a send-only stream", payload: [0x08, 0x03, 1], code: .streamStateError),
        .init(name: "STREAM on a stream never opened by us", payload: [0x08, 0x01, 1], code: .streamStateError),
        .init(name: "STREAM above the limit", payload: [0x08, 0x7f, 0xfe, 1], code: .streamLimitError),
        .init(
            name: "STREAM beyond its window", payload: [0x0c, 0x02, 0xbf, 0xff, 0xff, 0xff, 1], code: .flowControlError),
        .init(
            name: "STREAM beyond 2^62-1",
            payload: [0x0c, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], code: .frameEncodingError),
        .init(name: "truncated STREAM", payload: [0x0a, 0x02, 5, 1], code: .frameEncodingError),
        .init(
            name: "data after the final size", payload: [0x0b, 0x02, 1, 9, 0x0e, 0x02, 1, 1, 9], code: .finalSizeError),
        .init(name: "two final sizes", payload: [0x0b, 0x02, 1, 9, 0x04, 0x02, 0, 2], code: .finalSizeError),
        .init(name: "MAX_STREAM_DATA on a receive-only stream", payload: [0x11, 0x02, 5], code: .streamStateError),
        .init(name: "MAX_STREAM_DATA on a stream never opened", payload: [0x11, 0x01, 5], code: .streamStateError),
        .init(
            name: "MAX_STREAMS above 2^60", payload: [0x12, 0xd0, 0, 0, 0, 0, 0, 0, 1], code: .frameEncodingError),
        .init(
            name: "unidirectional MAX_STREAMS above 2^60", payload: [0x13, 0xd0, 0, 0, 0, 0, 0, 0, 1],
            code: .frameEncodingError),
        .init(
            name: "STREAMS_BLOCKED above 2^60", payload: [0x16, 0xd0, 0, 0, 0, 0, 0, 0, 1], code: .frameEncodingError),
        .init(
            name: "NEW_CONNECTION_ID retiring above itself",
            payload: [0x18, 1, 2, 8] + [UInt8](repeating: 7, count: 24), code: .frameEncodingError),
        .init(
            name: "NEW_CONNECTION_ID without an ID", payload: [0x18, 1, 0, 0] + [UInt8](repeating: 7, count: 16),
            code: .frameEncodingError),
        .init(
            name: "NEW_CONNECTION_ID of 21 octets", payload: [0x18, 1, 0, 21] + [UInt8](repeating: 7, count: 37),
            code: .frameEncodingError),
        .init(
            name: "NEW_CONNECTION_ID that contradicts an earlier one",
            payload: [0x18, 1, 0, 8] + [UInt8](repeating: 7, count: 24) + [0x18, 1, 0, 8]
                + [UInt8](repeating: 8, count: 24),
            code: .protocolViolation),
        .init(
            name: "NEW_CONNECTION_ID beyond the limit",
            payload: (1...4 as ClosedRange<UInt8>).flatMap { [0x18, $0, 0, 8] + [UInt8](repeating: $0, count: 24) },
            code: .connectionIDLimitError),
        .init(
            name: "RETIRE_CONNECTION_ID of the packet's own destination", payload: [0x19, 0], code: .protocolViolation),
        .init(name: "NEW_TOKEN without a token", payload: [0x07, 0], code: .protocolViolation),
        .init(name: "RETIRE_CONNECTION_ID never issued", payload: [0x19, 0x20], code: .protocolViolation),
        .init(name: "NEW_TOKEN from a client", payload: [0x07, 1, 1], code: .protocolViolation),
        .init(name: "HANDSHAKE_DONE from a client", payload: [0x1e], code: .protocolViolation),
        .init(name: "DATAGRAM not negotiated", payload: [0x30, 1, 2], code: .protocolViolation),
        .init(name: "PATH_ACK without multipath", payload: [0x3e, 1, 0, 0, 0, 0], code: .frameEncodingError),
        .init(name: "PATH_ABANDON without multipath", payload: [0x7e, 0x75, 0, 0], code: .frameEncodingError),
        .init(name: "FC_ANNOUNCE without flexicast", payload: [0x40, 0xf2, 1, 1], code: .frameEncodingError),
    ]

    @Test(arguments: violations)
    func server(_ violation: Violation) {
        var pair = ClearPair()
        pair.handshake()
        #expect(pair.server.isActive == true)
        ClearPair.inject(
            violation.payload, level: violation.level, number: 1000, from: ClearPair.clientAddress, to: &pair.server,
            at: pair.now)
        pair.pump()
        guard case .local(let error) = pair.serverEvents.closeReason else {
            Issue.record("still open: \(String(describing: pair.serverEvents.closeReason))")
            return
        }
        #expect(error.code == violation.code, "\(error)")
        // The client learns why, in the same code.
        pair.run(until: { $0.clientEvents.closeReason != nil })
        guard case .peer(let told) = pair.clientEvents.closeReason else {
            Issue.record("the client was not told")
            return
        }
        #expect(told.code == violation.code)
    }

    /// In any packet that can be opened (RFC 9000 sections 17.2 and 17.3.1).
    @Test(arguments: ProtectionLevel.allCases) func reservedBits(_ level: ProtectionLevel) {
        var pair = ClearPair()
        if level == .application { pair.handshake() }
        ClearPair.inject(
            [0x01], level: level, number: 1000, source: pair.client.localConnectionIDs[0],
            from: ClearPair.clientAddress, reservedBitsAreZero: false, to: &pair.server, at: pair.now)
        pair.pump()
        guard case .local(let error) = pair.serverEvents.closeReason else { return #expect(Bool(false)) }
        #expect(error.code == .protocolViolation)
    }

    /// RFC 9000 section 12.4, table 3: all types that a 1-RTT packet may carry and an Initial or Handshake packet may not.
    private static let types1RTT: [UInt8] =
        [0x04, 0x05, 0x07] + Array(0x08...0x1b as ClosedRange<UInt8>) + [0x1d, 0x1e, 0x30, 0x31]

    @Test(arguments: [ProtectionLevel.initial, .handshake], types1RTT)
    func forbiddenBeforeTheHandshake(_ level: ProtectionLevel, _ type: UInt8) {
        var pair = ClearPair()
        ClearPair.inject(
            [type] + [UInt8](repeating: 1, count: 40), level: level, number: 5,
            source: pair.client.localConnectionIDs[0], from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        pair.pump()
        guard case .local(let error) = pair.serverEvents.closeReason else { return #expect(Bool(false), "still open") }
        #expect(error.code == .protocolViolation)
    }

    /// Frames of flexicast: no packet before 1-RTT may carry them, and none does (draft section 11).
    @Test(arguments: [ProtectionLevel.initial, .handshake], [0xf2, 0xf4, 0xf5] as [UInt8])
    func flowFramesBeforeTheHandshake(_ level: ProtectionLevel, _ type: UInt8) {
        var pair = ClearPair()
        ClearPair.inject(
            [0x40, type] + [UInt8](repeating: 1, count: 40), level: level, number: 5,
            source: pair.client.localConnectionIDs[0], from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        pair.pump()
        guard case .local(let error) = pair.serverEvents.closeReason else { return #expect(Bool(false), "still open") }
        #expect(error.code == .frameEncodingError)
    }

    /// Frames of multipath, where it was offered: an unknown frame elsewhere (draft-ietf-quic-multipath-21 section 4).
    @Test(
        arguments: [ProtectionLevel.initial, .handshake], [[0x3e], [0x3f], [0x7e, 0x75], [0x7e, 0x7c]] as [[UInt8]])
    func multipathFramesBeforeTheHandshake(_ level: ProtectionLevel, _ type: [UInt8]) {
        var configuration = ConnectionConfiguration()
        for offer: UInt64? in [4, nil] {
            configuration.parameters.initialMaxPathID = offer
            var pair = ClearPair(server: configuration)
            ClearPair.inject(
                type + [UInt8](repeating: 1, count: 40), level: level, number: 5,
                source: pair.client.localConnectionIDs[0], from: ClearPair.clientAddress, to: &pair.server, at: pair.now
            )
            pair.pump()
            guard case .local(let error) = pair.serverEvents.closeReason else { return #expect(Bool(false), "open") }
            #expect(error.code == (offer == nil ? .frameEncodingError : .protocolViolation))
        }
    }

    @Test func flowFramesWaitFor1RTT() {
        let frame: [UInt8] = [0x40, 0xf4] + Array("a frame of flexicast".utf8)
        var pair = ClearPair()
        pair.client.sendExtensionFrame(frame, key: 1)
        pair.client.queueHandshakeBytes(Array("client hello".utf8), at: .initial)
        var count = 0
        while let (bytes, _) = ClearPair.transmit(&pair.client, at: pair.now) {
            #expect(!bytes.contains(frame))
            count += 1
        }
        #expect(count > 0)
        pair = ClearPair()
        pair.handshake()
        pair.client.sendExtensionFrame(frame, key: 1)
        var levels: [ProtectionLevel] = []
        while let (bytes, plans) = ClearPair.transmit(&pair.client, at: pair.now) {
            if bytes.contains(frame) { levels += plans.map(\.level) }
        }
        #expect(levels == [.application])
    }

    /// What is wrong with the transport parameters that `victim` is sent.
    struct WrongID: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var victim: Role
        var change: @Sendable (inout TransportParameters) -> Void

        init(_ name: String, _ victim: Role, _ change: @escaping @Sendable (inout TransportParameters) -> Void) {
            testDescription = name
            self.victim = victim
            self.change = change
        }
    }

    static let wrongIDs: [WrongID] = [
        .init("no initial source", .server) { $0.initialSourceConnectionID = nil },
        .init("another initial source", .server) { $0.initialSourceConnectionID = ConnectionID([1]) },
        .init("no initial source", .client) { $0.initialSourceConnectionID = nil },
        .init("no original destination", .client) { $0.originalDestinationConnectionID = nil },
        .init("another original destination", .client) { $0.originalDestinationConnectionID = ConnectionID([1]) },
        .init("a retry source without a Retry", .client) { $0.retrySourceConnectionID = ConnectionID([1]) },
    ]

    /// RFC 9000 section 7.3: the connection IDs of the transport parameters are those of the packets.
    @Test(arguments: wrongIDs) func connectionIDsOfParameters(_ wrong: WrongID) {
        let victim = wrong.victim
        var pair = ClearPair()
        var parameters = victim == .server ? pair.client.localParameters : pair.server.localParameters
        wrong.change(&parameters)
        let octets = parameters.encoded()
        if victim == .server {
            pair.server.peerParametersReceived(octets, at: pair.now)
        } else {
            // It knows the server's ID only from a packet.
            pair.client.queueHandshakeBytes(Array("client hello".utf8), at: .initial)
            pair.server.queueHandshakeBytes(Array("server hello".utf8), at: .initial)
            pair.run { $0.clientEvents.contains { if case .handshakeBytes = $0 { true } else { false } } }
            pair.client.peerParametersReceived(octets, at: pair.now)
        }
        pair.pump()
        let reason = victim == .server ? pair.serverEvents.closeReason : pair.clientEvents.closeReason
        guard case .local(let error) = reason else { return #expect(Bool(false), "still open") }
        #expect(error.code == .transportParameterError)
    }

    /// RFC 9000 section 19.7.
    @Test func emptyTokens() {
        var pair = ClearPair()
        pair.handshake()
        ClearPair.inject([0x07, 0], number: 1000, from: ClearPair.serverAddress, to: &pair.client, at: pair.now)
        pair.pump()
        guard case .local(let error) = pair.clientEvents.closeReason else { return #expect(Bool(false), "still open") }
        #expect(error.code == .frameEncodingError)
    }

    /// RFC 9000 section 19.15: the same frame again is no error, a lower Retire Prior To changes nothing, and an ID that
    /// comes after it was to be retired is retired.
    @Test func repeatedConnectionIDs() {
        var pair = ClearPair()
        pair.handshake()
        func frame(_ sequence: UInt8, retirePriorTo: UInt8) -> [UInt8] {
            [0x18, sequence, retirePriorTo, 8] + [UInt8](repeating: sequence, count: 24)
        }
        let frames = [
            frame(2, retirePriorTo: 2), frame(2, retirePriorTo: 2), frame(3, retirePriorTo: 0),
            frame(1, retirePriorTo: 0),
        ]
        for (number, payload) in frames.enumerated() {
            ClearPair.inject(
                payload, number: 1000 + UInt64(number), from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        }
        #expect(pair.server.isActive == true)
        #expect(pair.server.remoteID == ConnectionID([UInt8](repeating: 2, count: 8)))
        var sent: [UInt8] = []
        while let datagram = ClearPair.transmit(&pair.server, at: pair.now) { sent += datagram.0 }
        for sequence in UInt8(0)...1 { #expect(sent.contains([0x19, sequence])) }
        for sequence in UInt8(2)...3 { #expect(!sent.contains([0x19, sequence])) }
    }

    /// CVE-2024-22189: a peer that makes us retire IDs for ever, without acknowledging.
    @Test func connectionIDFloodIsBounded() {
        var pair = ClearPair()
        pair.handshake()
        pair.drop = { fromClient, _ in !fromClient }
        for sequence in UInt64(1)...200 where pair.server.isActive {
            let payload = [UInt8].written(capacity: 60) { writer in
                writer.uint8(0x18)
                writer.varint(sequence)
                writer.varint(sequence)
                writer.uint8(8)
                writer.uint64(sequence)
                writer.zeros(16)
            }
            ClearPair.inject(
                payload, number: 1000 + sequence, from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
            pair.pump()
        }
        guard case .local(let error) = pair.serverEvents.closeReason else { return #expect(Bool(false), "still open") }
        #expect(error.code == .connectionIDLimitError)
    }
}
