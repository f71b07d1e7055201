import CShims
import QUIC
import Wire

/// Retry packets (RFC 9000 section 17.2.5) and their integrity tag (RFC 9001 section 5.8).
public enum Retry {
    private static let key: [UInt8] = [
        0xbe, 0x0c, 0x69, 0x0b, 0x9f, 0x66, 0x57, 0x5a, 0x1d, 0x76, 0x6b, 0x54, 0xe3, 0x68, 0xc8, 0x4e,
    ]
    private static let nonce: [UInt8] = [
        0x46, 0x15, 0x99, 0xd3, 0x5d, 0x63, 0x2b, 0xf2, 0x23, 0x98, 0x25, 0xbb,
    ]

    /// The 16-octet tag of `packet`, a Retry packet without its tag. `originalDestination` is the destination
    /// connection ID of the Initial packet that it answers.
    public static func integrityTag(originalDestination: ConnectionID, packet: Span<UInt8>) -> [UInt8] {
        var pseudo = [UInt8(originalDestination.count)] + originalDestination.octets
        pseudo.append(packet)
        let length = pseudo.count
        pseudo += [UInt8](repeating: 0, count: CipherSuite.tagLength)
        // All of it is header: there is nothing to encrypt.
        let layout = fc_packet(
            start: 0, number_offset: 0, payload_offset: length, end: pseudo.count, number: 0, path: 0, mask: 0)
        let cipher = PacketCipher(.aes128GCM, key: key, iv: nonce, sealing: true)
        let packets = InlineArray<1, fc_packet>(repeating: layout)
        var span = pseudo.mutableSpan
        cipher.seal(&span, packets.span, mask: nil)
        return Array(pseudo[length...])
    }

    /// Whether `packet`, a whole Retry packet, carries the right tag. A client drops it otherwise.
    public static func isAuthentic(_ packet: Span<UInt8>, originalDestination: ConnectionID) -> Bool {
        guard packet.count >= CipherSuite.tagLength else { return false }
        let split = packet.count - CipherSuite.tagLength
        let tag = integrityTag(originalDestination: originalDestination, packet: packet.extracting(0..<split))
        return constantTimeEquals(tag.span, packet.extracting(split..<packet.count))
    }

    /// A Retry packet with its tag.
    ///
    /// - Parameters:
    ///   - destination: the source connection ID of the Initial packet that it answers.
    ///   - source: a new connection ID, which the client uses as destination from then on.
    ///   - originalDestination: the destination connection ID of that Initial packet.
    ///   - token: what the client sends back to prove its address.
    public static func packet(
        destination: ConnectionID, source: ConnectionID, originalDestination: ConnectionID, token: [UInt8]
    ) -> [UInt8] {
        var packet = [UInt8].written(capacity: 7 + 2 * ConnectionID.maxLength + token.count) { writer in
            writer.uint8(0xf0)
            // Version 1.
            writer.uint32(1)
            for id in [destination, source] {
                writer.uint8(UInt8(id.count))
                writer.octets(id.octets.span)
            }
            writer.octets(token.span)
        }
        packet += integrityTag(originalDestination: originalDestination, packet: packet.span)
        return packet
    }
}
