import QUIC
import Wire

/// Frames as they are on the wire, types included, for others who speak the protocol. Our tests read and write them.
/// The values were laid out by hand from the figures of draft-navarre-quic-flexicast-02 section 11 and the type codes
/// 0xf2, 0xf4 and 0xf5 (two octets each as variable-length integers).
public enum WireVectors {
    /// A frame in hexadecimal, and what it says.
    public struct Vector<Frame: Sendable>: Sendable {
        /// Two hexadecimal digits for each octet, without spaces.
        public var octets: String
        /// What they are to be read as, and written from.
        public var frame: Frame
    }

    /// flexicast_support, the value only: IPv4 and IPv6; IPv4 only; IPv6 only.
    public static let support: [Vector<FlexicastSupport>] = [
        Vector(octets: "0101", frame: FlexicastSupport()),
        Vector(octets: "0100", frame: FlexicastSupport(ipv4: true, ipv6: false)),
        Vector(octets: "0001", frame: FlexicastSupport(ipv4: false, ipv6: true)),
    ]

    /// An IPv4 flow acknowledged every 25 ms; an IPv6 flow with an ID of 20 octets; the first one withdrawn.
    public static let announce: [Vector<AnnounceFrame>] = [
        Vector(
            octets: "40f20801020304050607080004c0000201e801020311510000000000000019",
            frame: AnnounceFrame(
                flowID: flow, sequence: 0,
                parameters: FlowParameters(
                    source: .v4(0xc000_0201), group: .v4(0xe801_0203), port: 4433, ackDelay: .milliseconds(25)))),
        Vector(
            octets:
                "40f214a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3412c0620010db8000000000000000000000001ff3e"
                + "0000000000000000000080000001115100000000000003e8",
            frame: AnnounceFrame(
                flowID: FlowID(Array(0xa0..<0xb4))!, sequence: 300,
                parameters: FlowParameters(
                    source: .v6(0x2001_0db8_0000_0000_0000_0000_0000_0001),
                    group: .v6(0xff3e_0000_0000_0000_0000_0000_8000_0001), port: 4433, ackDelay: .seconds(1)))),
        Vector(
            octets: "40f20801020304050607080104000000000000000000000000000000000000",
            frame: AnnounceFrame(
                flowID: flow, sequence: 1,
                parameters: FlowParameters(source: .v4(0), group: .v4(0), port: 0, ackDelay: .zero))),
    ]

    /// JOIN, LEAVE, and READY for a flow with an ID of one octet.
    public static let state: [Vector<StateFrame>] = [
        Vector(
            octets: "40f4080102030405060708000000000000000001",
            frame: StateFrame(flowID: flow, sequence: 0, action: .join)),
        Vector(
            octets: "40f4080102030405060708020000000000000002",
            frame: StateFrame(flowID: flow, sequence: 2, action: .leave)),
        Vector(
            octets: "40f4017f010000000000000003",
            frame: StateFrame(flowID: FlowID([0x7f])!, sequence: 1, action: .ready)),
    ]

    /// A key for TLS_AES_128_GCM_SHA256 from packet 0x12345 on; one for TLS_AES_256_GCM_SHA384 from packet 0 on.
    public static let key: [Vector<KeyFrame>] = [
        Vector(
            octets:
                "40f5080102030405060708008001234520000102030405060708090a0b0c0d0e0f101112131415161718191a"
                + "1b1c1d1e1f0000000000001301",
            frame: KeyFrame(
                flowID: flow, sequence: 0, packetNumber: 0x12345, suite: .aes128GCM, secret: Array(0..<32))),
        Vector(
            octets:
                "40f5080102030405060708010030000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d"
                + "1e1f202122232425262728292a2b2c2d2e2f0000000000001302",
            frame: KeyFrame(flowID: flow, sequence: 1, packetNumber: 0, suite: .aes256GCM, secret: Array(0..<48))),
    ]

    private static var flow: FlowID { FlowID([1, 2, 3, 4, 5, 6, 7, 8])! }
}
