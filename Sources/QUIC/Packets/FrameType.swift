/// Frame type code points (RFC 9000 section 19, RFC 9221 section 4, draft-ietf-quic-multipath-21 section 6).
enum FrameType {
    static let padding: UInt64 = 0x00
    static let ping: UInt64 = 0x01
    static let ack: UInt64 = 0x02
    static let ackECN: UInt64 = 0x03
    static let resetStream: UInt64 = 0x04
    static let stopSending: UInt64 = 0x05
    static let crypto: UInt64 = 0x06
    static let newToken: UInt64 = 0x07
    static let stream: ClosedRange<UInt64> = 0x08...0x0f
    /// A STREAM frame that goes on to the end of its packet, and not to the end of its stream.
    static let streamWithOffset: UInt64 = 0x0c
    static let maxData: UInt64 = 0x10
    static let maxStreamData: UInt64 = 0x11
    static let maxStreamsBidirectional: UInt64 = 0x12
    static let maxStreamsUnidirectional: UInt64 = 0x13
    static let dataBlocked: UInt64 = 0x14
    static let streamDataBlocked: UInt64 = 0x15
    static let streamsBlockedBidirectional: UInt64 = 0x16
    static let streamsBlockedUnidirectional: UInt64 = 0x17
    static let newConnectionID: UInt64 = 0x18
    static let retireConnectionID: UInt64 = 0x19
    static let pathChallenge: UInt64 = 0x1a
    static let pathResponse: UInt64 = 0x1b
    static let connectionClose: UInt64 = 0x1c
    static let connectionCloseApplication: UInt64 = 0x1d
    static let handshakeDone: UInt64 = 0x1e
    static let datagram: UInt64 = 0x30
    static let datagramWithLength: UInt64 = 0x31

    static let pathACK: UInt64 = 0x3e
    static let pathACKECN: UInt64 = 0x3f
    static let pathAbandon: UInt64 = 0x3e75
    static let pathStatusBackup: UInt64 = 0x3e76
    static let pathStatusAvailable: UInt64 = 0x3e77
    static let pathNewConnectionID: UInt64 = 0x3e78
    static let pathRetireConnectionID: UInt64 = 0x3e79
    static let maxPathID: UInt64 = 0x3e7a
    static let pathsBlocked: UInt64 = 0x3e7b
    static let pathCIDsBlocked: UInt64 = 0x3e7c

    /// Whether a frame may appear in Initial and Handshake packets (RFC 9000 section 12.4, table 3).
    static func allowedBeforeApplication(_ type: UInt64) -> Bool {
        switch type {
        case padding, ping, ack, ackECN, crypto, connectionClose: true
        default: false
        }
    }
}
