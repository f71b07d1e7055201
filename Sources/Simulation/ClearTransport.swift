import QUIC
import Wire

/// A datagram as a machine wrote it, with what packet protection would be told. Nothing is sealed in a simulation: the
/// machines are what is tested, and a hundred thousand receivers would spend their time in AES.
struct ClearDatagram: Sendable {
    var bytes: [UInt8]
    var plans: [PacketPlan]
    /// Where its sender sent it; nil to the group.
    var to: SocketAddress?
}

/// Carries a `Connection` over the simulated network in the clear: what packet protection and TLS do for it.
enum ClearTransport {
    /// `room`: octets to write in, used again and again.
    static func transmit(_ connection: inout Connection, room: inout [UInt8], at now: Instant) -> ClearDatagram? {
        var plans: [PacketPlan] = []
        let datagram: OutgoingDatagram?
        do {
            var span = room.mutableSpan
            var writer = ByteWriter(&span)
            datagram = connection.transmit(into: &writer, plans: &plans, at: now)
        }
        guard let datagram else { return nil }
        return ClearDatagram(bytes: Array(room[..<datagram.count]), plans: plans, to: datagram.to)
    }

    static func receive(
        _ datagram: ClearDatagram, from address: SocketAddress, into connection: inout Connection,
        extension: inout some FrameExtension, at now: Instant
    ) {
        connection.datagramReceived(octets: datagram.bytes.count, from: address, at: now)
        for plan in datagram.plans {
            // Without keys there would be nothing to read yet.
            if plan.level == .application, !connection.isHandshakeComplete { continue }
            guard let header = PacketHeader.parse(datagram.bytes.span, at: plan.start, shortIDLength: 8) else {
                continue
            }
            let payload = datagram.bytes.span.extracting(plan.payloadOffset..<(plan.end - CipherSuite.tagLength))
            connection.packetReceived(
                ReceivedPacket(
                    level: plan.level, packetNumber: plan.packetNumber, destination: header.destination,
                    source: header.source, from: address),
                payload: payload, at: now, extension: &`extension`)
        }
    }

    // MARK: A handshake of three words

    static let clientHello = Array("client hello".utf8)
    static let serverHello = Array("server hello".utf8)
    static let finished = Array("finished".utf8)

    /// Answers handshake octets as TLS would, at a server.
    static func answerAtServer(
        _ connection: inout Connection, level: ProtectionLevel, client: TransportParameters, at now: Instant
    ) {
        if level == .initial {
            connection.readKeysInstalled(.handshake, at: now)
            connection.writeKeysInstalled(.handshake)
            connection.writeKeysInstalled(.application)
            connection.peerParametersReceived(client.encoded(), at: now)
            connection.queueHandshakeBytes(serverHello, at: .initial)
        } else {
            connection.readKeysInstalled(.application, at: now)
            connection.handshakeCompleted(at: now)
        }
    }

    /// Answers handshake octets as TLS would, at a client.
    static func answerAtClient(
        _ connection: inout Connection, level: ProtectionLevel, server: TransportParameters, at now: Instant
    ) {
        guard level == .initial else { return }
        for level in [ProtectionLevel.handshake, .application] {
            connection.readKeysInstalled(level, at: now)
            connection.writeKeysInstalled(level)
        }
        connection.peerParametersReceived(server.encoded(), at: now)
        connection.queueHandshakeBytes(finished, at: .handshake)
        connection.handshakeCompleted(at: now)
    }
}
