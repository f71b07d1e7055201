import QUIC

/// The secrets that protect Initial packets of version 1 (RFC 9001 section 5.2). Anyone who sees the first packet can
/// derive them: they keep out accidents, not attackers.
public enum InitialSecrets {
    private static let salt: [UInt8] = [
        0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb,
        0x7f, 0x0a,
    ]

    /// The secret that `sender` seals its Initial packets with. `destination` is the destination connection ID of the
    /// client's first Initial packet, or of the first after a Retry.
    public static func secret(of sender: Role, destination: ConnectionID) -> [UInt8] {
        let initial = HKDF.extract(.sha256, salt: salt, destination.octets)
        return HKDF.expandLabel(
            .sha256, secret: initial, sender == .client ? "client in" : "server in", length: 32)
    }

    /// Both keys of the endpoint whose role is `role`; Initial packets always use AES-128-GCM.
    public static func keys(for role: Role, destination: ConnectionID) -> (sealing: SealingKey, opening: OpeningKey) {
        (
            SealingKey(suite: .aes128GCM, secret: secret(of: role, destination: destination)),
            OpeningKey(suite: .aes128GCM, secret: secret(of: role.peer, destination: destination))
        )
    }
}
