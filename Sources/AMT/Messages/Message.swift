import Wire

// The seven messages of AMT (RFC 7450 section 5.1), each one UDP payload. Octet 0 is version 0 and type.
//
//     gateway ── 1 Relay Discovery ──────> relay     at a discovery address
//             <── 2 Relay Advertisement ──
//             ── 3 Request ──────────────>           at the relay's own address from here on
//             <── 4 Membership Query ─────           response MAC, a general query inside
//             ── 5 Membership Update ────>           the MAC back, a report inside
//             <── 6 Multicast Data ───────           whole multicast packets
//             ── 7 Teardown ─────────────>           for the address and port the gateway had before

/// Where relays listen (RFC 7450 section 7.2).
public let relayPort: UInt16 = 2268

/// The IP version of the multicast that is asked for: bit P of a Request.
public enum DataFamily: Hashable, Sendable, CaseIterable {
    /// IGMP and IPv4 data.
    case ipv4
    /// MLD and IPv6 data.
    case ipv6
}

/// 48 bits by which a relay knows that a gateway receives at the address it sends from (RFC 7450 section 5.1.4.6).
public struct ResponseMAC: Hashable, Sendable {
    /// The low 48 bits count.
    public let bits: UInt64

    /// - Parameter bits: all but the low 48 are ignored.
    public init(_ bits: UInt64) { self.bits = bits & 0xffff_ffff_ffff }
}

/// An AMT message. Datagrams inside messages stay where they are: they begin at the offset the message's type gives.
public enum Message: Hashable, Sendable {
    /// 1: is there a relay? (RFC 7450 section 5.1.1)
    case discovery(nonce: UInt32)
    /// 2: the relay has this address (RFC 7450 section 5.1.2).
    case advertisement(nonce: UInt32, relay: IPAddress)
    /// 3: a Membership Query is asked for (RFC 7450 section 5.1.3).
    case request(Request)
    /// 4: a MAC, and what is wanted? (RFC 7450 section 5.1.4)
    case query(Query)
    /// 5: the MAC comes back with a report (RFC 7450 section 5.1.5).
    case update(mac: ResponseMAC, nonce: UInt32)
    /// 6: a multicast packet lies behind (RFC 7450 section 5.1.6).
    case data
    /// 7: nothing more to this former address of the gateway (RFC 7450 section 5.1.7).
    case teardown(mac: ResponseMAC, nonce: UInt32, gateway: SocketAddress)

    /// What a gateway asks for, and how: implementations differ in ways that the relay must know (AMT interoperability).
    public struct Request: Hashable, Sendable {
        /// Ties the answer to the Request (RFC 7450 sections 5.1.3 and 5.1.4).
        public var nonce: UInt32
        /// P: which protocol the Query inside is of (RFC 7450 section 5.1.3).
        public var family: DataFamily
        /// P was sent as 0x80, where Linux has it; RFC 7450 has it at 0x01.
        public var usesLinuxFlags = false
        /// E: the gateway passes marks of congestion on, whichever header has them (RFC 9601 section 6.1.4.2).
        public var declaresECN = false
        /// Octets of the message: VLC sends 9, everybody else 8.
        public var length = Message.requestLength

        /// A Request of eight octets.
        public init(nonce: UInt32, family: DataFamily, usesLinuxFlags: Bool = false, declaresECN: Bool = false) {
            self.nonce = nonce
            self.family = family
            self.usesLinuxFlags = usesLinuxFlags
            self.declaresECN = declaresECN
        }
    }

    /// A Membership Query; its general query lies in `datagram`.
    public struct Query: Hashable, Sendable {
        /// The response MAC, which the Update brings back (RFC 7450 section 5.1.4).
        public var mac: ResponseMAC
        /// Ties the answer to the Request (RFC 7450 sections 5.1.3 and 5.1.4).
        public var nonce: UInt32
        /// L: the relay takes no new gateways.
        public var isLimited = false
        /// G: where the relay saw the Request come from.
        public var gateway: SocketAddress?
        /// Where the general query lies in the message.
        public var datagram: Range<Int>

        /// `datagram`: where the general query lies; of no meaning for a message that is written.
        public init(
            mac: ResponseMAC, nonce: UInt32, isLimited: Bool = false, gateway: SocketAddress? = nil,
            datagram: Range<Int> = 0..<0
        ) {
            self.mac = mac
            self.nonce = nonce
            self.isLimited = isLimited
            self.gateway = gateway
            self.datagram = datagram
        }
    }

    /// Octets of a Request.
    public static let requestLength = 8
    /// Octets before the datagram in a Membership Query or Update.
    public static let membershipHeaderLength = 12
    /// Octets before the packet in Multicast Data.
    public static let dataHeaderLength = 2
    /// Octets of the gateway's port and address behind a query, and in a Teardown.
    public static let gatewayFieldsLength = 18

    /// Reads one message; nil when it is none, of another version, or too short (RFC 7450 sections 5.2.3.2 and 5.3.3.1).
    /// Reserved bits are ignored (RFC 7450 sections 5.1.1.3, 5.1.2.3, 5.1.3.3, 5.1.4.3, 5.1.5.3, 5.1.6.3 and 5.1.7.3),
    /// and so is what follows the fields.
    public init?(_ bytes: Span<UInt8>) {
        var reader = ByteReader(bytes)
        guard let kind = reader.uint8() else { return nil }
        switch kind {
        case 1:
            guard reader.skip(3), let nonce = reader.uint32() else { return nil }
            self = .discovery(nonce: nonce)
        case 2:
            guard reader.skip(3), let nonce = reader.uint32() else { return nil }
            if reader.remaining >= 16, let address = reader.address6() {
                self = .advertisement(nonce: nonce, relay: .v6(address))
            } else if reader.remaining == 4, let address = reader.uint32() {
                self = .advertisement(nonce: nonce, relay: .v4(address))
            } else {
                return nil
            }
        case 3:
            guard let flags = reader.uint8(), reader.skip(2), let nonce = reader.uint32() else { return nil }
            var request = Request(nonce: nonce, family: flags & 0x81 == 0 ? .ipv4 : .ipv6)
            request.usesLinuxFlags = flags & 0x80 != 0
            request.declaresECN = flags & 2 != 0
            request.length = bytes.count
            self = .request(request)
        case 4:
            guard let flags = reader.uint8(), let mac = reader.bigEndian(6), let nonce = reader.uint32() else {
                return nil
            }
            var query = Query(mac: ResponseMAC(mac), nonce: nonce, isLimited: flags & 2 != 0)
            var end = bytes.count
            if flags & 1 != 0 {
                end -= Self.gatewayFieldsLength
                guard end >= reader.offset else { return nil }
                var fields = ByteReader(bytes, at: end)
                guard let gateway = Self.readGateway(&fields) else { return nil }
                query.gateway = gateway
            }
            query.datagram = reader.offset..<end
            self = .query(query)
        case 5:
            guard reader.skip(1), let mac = reader.bigEndian(6), let nonce = reader.uint32() else { return nil }
            self = .update(mac: ResponseMAC(mac), nonce: nonce)
        case 6:
            guard reader.skip(1) else { return nil }
            self = .data
        case 7:
            guard reader.skip(1), let mac = reader.bigEndian(6), let nonce = reader.uint32(),
                let gateway = Self.readGateway(&reader)
            else { return nil }
            self = .teardown(mac: ResponseMAC(mac), nonce: nonce, gateway: gateway)
        default: return nil
        }
    }

    /// Port and address; an IPv4 address has 96 zero bits before it (RFC 7450 section 5.1.4.9.2).
    @_lifetime(reader: copy reader)
    private static func readGateway(_ reader: inout ByteReader) -> SocketAddress? {
        guard let port = reader.uint16(), let bits = reader.address6() else { return nil }
        // ::ffff:a.b.c.d is not what the RFC has, but cannot mean anything else.
        let address: IPAddress = bits >> 32 == 0 && bits > 1 ? .v4(UInt32(bits)) : IPAddress.v6(bits).unmapped
        return SocketAddress(address, port: port)
    }

    // MARK: writing

    /// Octets of the message.
    public var bytes: [UInt8] { bytes(datagram: []) }

    /// Octets of the message with `datagram` inside, where its type has one.
    public func bytes(datagram: [UInt8]) -> [UInt8] {
        [UInt8].written(capacity: 48 + datagram.count) { writer in write(to: &writer, datagram: datagram.span) }
    }

    @_lifetime(writer: copy writer)
    private func write(to writer: inout ByteWriter, datagram: Span<UInt8>) {
        switch self {
        case .discovery(let nonce):
            writer.uint32(0x0100_0000)
            writer.uint32(nonce)
        case .advertisement(let nonce, let relay):
            writer.uint32(0x0200_0000)
            writer.uint32(nonce)
            writer.address(relay)
        case .request(let request):
            writer.uint8(3)
            let family: UInt8 = request.family == .ipv4 ? 0 : request.usesLinuxFlags ? 0x80 : 1
            writer.uint8(family | (request.declaresECN ? 2 : 0))
            writer.uint16(0)
            writer.uint32(request.nonce)
        case .query(let query):
            writer.uint8(4)
            writer.uint8((query.isLimited ? 2 : 0) | (query.gateway == nil ? 0 : 1))
            writer.bigEndian(query.mac.bits, width: 6)
            writer.uint32(query.nonce)
            writer.octets(datagram)
            // G and the fields go together (RFC 7450 section 5.1.4.5).
            if let gateway = query.gateway { Self.write(gateway, to: &writer) }
        case .update(let mac, let nonce):
            writer.uint16(0x0500)
            writer.bigEndian(mac.bits, width: 6)
            writer.uint32(nonce)
            writer.octets(datagram)
        case .data:
            writer.uint16(0x0600)
            writer.octets(datagram)
        case .teardown(let mac, let nonce, let gateway):
            writer.uint16(0x0700)
            writer.bigEndian(mac.bits, width: 6)
            writer.uint32(nonce)
            Self.write(gateway, to: &writer)
        }
    }

    @_lifetime(writer: copy writer)
    private static func write(_ gateway: SocketAddress, to writer: inout ByteWriter) {
        writer.uint16(gateway.port)
        switch gateway.address {
        case .v4(let bits): writer.address(.v6(UInt128(bits)))
        case .v6: writer.address(gateway.address)
        }
    }
}
