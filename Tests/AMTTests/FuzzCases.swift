import AMT
import Wire

// Input that nobody should send, for every codec and both machines. What is checked here needs no test library, so that
// a program without one can run more of it.

/// What went wrong, and how to see it again.
struct FuzzFailure: Error, CustomStringConvertible {
    var what: String
    var seed: UInt64
    var number: Int
    var bytes: [UInt8] = []

    var description: String {
        let hex = bytes.prefix(256).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        return "\(what) (seed \(seed), case \(number)) \(hex)"
    }
}

/// SplitMix64: quick also where nothing is optimized.
struct QuickRandom {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
        return mixed ^ mixed >> 31
    }

    mutating func below(_ limit: Int) -> Int { Int(truncatingIfNeeded: next() >> 1) % limit }
    mutating func octet() -> UInt8 { UInt8(truncatingIfNeeded: next()) }
    mutating func octets(_ count: Int) -> [UInt8] { (0..<count).map { _ in octet() } }
    mutating func pick<T>(_ list: [T]) -> T { list[below(list.count)] }

    /// A source or a group of few, some of them not allowed, and the rest arbitrary.
    mutating func address(isIPv4: Bool, isGroup: Bool) -> IPAddress {
        let low = UInt32(truncatingIfNeeded: next()) & 3
        switch (below(12), isIPv4, isGroup) {
        case (0, true, _): return .v4(UInt32(truncatingIfNeeded: next()))
        case (0, false, _): return .v6(UInt128(next()) << 64 | UInt128(next()))
        case (1, true, true): return .v4(0xe000_0000 | low)
        case (1, false, true): return .v6(0xff02 << 112 | UInt128(low))
        case (2, true, true): return .v4(0xef01_0000 | low)
        case (2, false, true): return .v6(0xff1e << 112 | UInt128(low))
        case (_, true, true): return .v4(0xe801_0000 | low)
        case (_, false, true): return .v6(0xff3e << 112 | 0x8000_0000 | UInt128(low))
        case (_, true, false): return .v4(0x0a00_0001 + low)
        case (_, false, false): return .v6(0x2001_0db8 << 96 | UInt128(low + 1))
        }
    }

    mutating func records(isIPv4: Bool, most: Int) -> [GroupRecord] {
        (0..<(1 + below(most))).map { _ in
            let sources = (0..<(below(8) == 0 ? below(80) : below(4))).map { _ in
                address(isIPv4: isIPv4, isGroup: below(20) == 0)
            }
            return GroupRecord(
                pick(GroupRecord.Kind.allCases), address(isIPv4: isIPv4, isGroup: below(20) != 0), sources)
        }
    }

    /// Changes some octets, cuts, lengthens.
    mutating func spoil(_ bytes: [UInt8]) -> [UInt8] {
        var bytes = bytes
        switch below(8) {
        case 0: bytes.removeLast(below(bytes.count + 1))
        case 1: bytes += octets(1 + below(40))
        case 2: bytes.removeFirst(min(bytes.count, 1 + below(4)))
        default: break
        }
        guard !bytes.isEmpty else { return bytes }
        for _ in 0..<below(4) {
            let index = below(4) == 0 ? below(bytes.count) : below(min(bytes.count, 48))
            bytes[index] = below(3) == 0 ? pick([0, 1, 0x7f, 0x80, 0xff]) : octet()
        }
        return bytes
    }
}

/// Gives an IP packet the checksums that what is in it asks for, so that spoiled ones are not all refused at the door.
func repaired(_ packet: [UInt8]) -> [UInt8] {
    var packet = packet
    func put(_ value: UInt16, at offset: Int) {
        packet[offset] = UInt8(value >> 8)
        packet[offset + 1] = UInt8(value & 255)
    }
    guard packet.count >= 20 else { return packet }
    if packet[0] >> 4 == 4 {
        let length = Int(packet[0] & 15) * 4
        guard length >= 20, length <= packet.count else { return packet }
        put(0, at: 10)
        var sum = InternetChecksum()
        sum.add(packet.span.extracting(0..<length))
        put(sum.value, at: 10)
    }
    guard let header = try? IPHeader(packet.span) else { return packet }
    let place: Int
    switch header.protocolNumber {
    case IPProtocol.igmp, IPProtocol.icmpv6: place = header.headerLength + 2
    case IPProtocol.udp: place = header.headerLength + 6
    default: return packet
    }
    guard place + 2 <= header.totalLength, header.fragment == nil else { return packet }
    put(0, at: place)
    let body = header.totalLength - header.headerLength
    var sum =
        header.protocolNumber == IPProtocol.igmp
        ? InternetChecksum()
        : InternetChecksum(from: header.source, to: header.destination, protocol: header.protocolNumber, length: body)
    sum.add(packet.span.extracting(header.payload))
    put(sum.value, at: place)
    return packet
}

/// A UDP packet to a group, as one packet or, with `offset`, as the piece of a larger one.
func dataPacket(
    from source: IPAddress, to group: IPAddress, _ payload: [UInt8], fragment: (offset: Int, hasMore: Bool)? = nil,
    identification: UInt16 = 0
) -> [UInt8] {
    var datagram = [UInt8](repeating: 0, count: 8) + payload
    (datagram[0], datagram[1], datagram[2], datagram[3]) = (0x10, 1, 0x11, 0x5d)
    datagram[4] = UInt8(truncatingIfNeeded: datagram.count >> 8)
    datagram[5] = UInt8(truncatingIfNeeded: datagram.count)
    let body = fragment == nil ? datagram : payload
    var packet = [UInt8].written(capacity: 40 + body.count) { writer in
        IPHeader.write(
            to: &writer, from: source, to: group, protocol: IPProtocol.udp, payloadLength: body.count, hopLimit: 8)
        writer.octets(body.span)
    }
    if source.isIPv4 {
        let position = UInt16((fragment?.offset ?? 0) / 8) | (fragment?.hasMore ?? false ? 0x2000 : 0)
        (packet[4], packet[5]) = (UInt8(identification >> 8), UInt8(identification & 255))
        (packet[6], packet[7]) = (UInt8(position >> 8), UInt8(position & 255))
    }
    return repaired(packet)
}

/// What a raw socket hears when a packet from `source` does not get to `destination`.
func icmpError(code: UInt8, mtu: UInt16, from source: SocketAddress, to destination: SocketAddress) -> [UInt8] {
    let body = [UInt8].written(capacity: 48) { writer in
        writer.uint8(3)
        writer.uint8(code)
        writer.uint32(0)
        writer.uint16(mtu)
        IPHeader.write(
            to: &writer, from: source.address, to: destination.address, protocol: IPProtocol.udp, payloadLength: 1210,
            hopLimit: 60)
        writer.uint16(source.port)
        writer.uint16(destination.port)
        writer.uint32(1210 << 16)
    }
    return [UInt8].written(capacity: 20 + body.count) { writer in
        IPHeader.write(
            to: &writer, from: .v4(0xc000_02fe), to: source.address, protocol: 1, payloadLength: body.count,
            hopLimit: 60)
        writer.octets(body.span)
    }
}

/// Every reader and writer of messages and of what lies in them.
struct CodecFuzz {
    let seed: UInt64
    private var random: QuickRandom
    private let seeds: [[UInt8]]

    init(seed: UInt64) {
        self.seed = seed
        random = QuickRandom(seed)
        let v4 = SocketAddress(.v4(0xc000_0207), port: 40_000)
        let v6 = SocketAddress(.v6(0x2001_0db8 << 96 | 7), port: 40_000)
        let mac = ResponseMAC(0x1234_5678_9abc)
        let reports = [true, false].map { isIPv4 in
            MembershipReport(
                family: isIPv4 ? .ipv4 : .ipv6,
                records: [
                    GroupRecord(
                        .isInclude, isIPv4 ? .v4(0xe801_0001) : .v6(0xff3e << 112 | 0x8000_0001),
                        [isIPv4 ? .v4(0x0a00_0001) : .v6(0x2001_0db8 << 96 | 1)]),
                    GroupRecord(.toExclude, isIPv4 ? .v4(0xef01_0001) : .v6(0xff1e << 112 | 1)),
                ]
            ).packet()
        }
        let queries = DataFamily.allCases.map {
            GeneralQuery(family: $0, maximumResponse: .milliseconds(100), robustness: 2, interval: .seconds(125))
                .packet()
        }
        var seeds: [[UInt8]] = [
            Message.discovery(nonce: 7).bytes,
            Message.advertisement(nonce: 7, relay: v4.address).bytes,
            Message.advertisement(nonce: 7, relay: v6.address).bytes,
            Message.request(Message.Request(nonce: 7, family: .ipv6)).bytes,
            Message.teardown(mac: mac, nonce: 7, gateway: v4).bytes,
            Message.teardown(mac: mac, nonce: 7, gateway: v6).bytes,
        ]
        for report in reports { seeds.append(Message.update(mac: mac, nonce: 7).bytes(datagram: report)) }
        for query in queries {
            seeds.append(Message.query(Message.Query(mac: mac, nonce: 7)).bytes(datagram: query))
            seeds.append(Message.query(Message.Query(mac: mac, nonce: 7, gateway: v6)).bytes(datagram: query))
        }
        self.seeds = seeds
    }

    mutating func run(_ count: Int) throws(FuzzFailure) {
        for number in 0..<count {
            switch number % 8 {
            case 0, 1, 2: try message(random.spoil(random.pick(seeds)), number)
            case 3: try message(random.octets(random.below(120)), number)
            case 4, 5: try inside(number)
            case 6: try report(number)
            default: if number % 16 < 8 { try packet(number) } else { try notice(number) }
            }
        }
    }

    private func fail(_ what: String, _ number: Int, _ bytes: [UInt8]) -> FuzzFailure {
        FuzzFailure(what: what, seed: seed, number: number, bytes: bytes)
    }

    /// What is read and written is read alike.
    private func message(_ bytes: [UInt8], _ number: Int) throws(FuzzFailure) {
        guard let message = Message(bytes.span) else { return }
        var inside: [UInt8] = []
        switch message {
        case .query(let query):
            guard query.datagram.lowerBound == Message.membershipHeaderLength, query.datagram.upperBound <= bytes.count
            else { throw fail("a query's datagram lies at \(query.datagram)", number, bytes) }
            inside = Array(bytes[query.datagram])
        case .update: inside = Array(bytes[Message.membershipHeaderLength...])
        case .data: inside = Array(bytes[Message.dataHeaderLength...])
        default: break
        }
        guard var again = Message(message.bytes(datagram: inside).span) else {
            throw fail("\(message) is not read again", number, bytes)
        }
        // The one thing that is not written: how long a Request was.
        if case .request(var request) = again, case .request(let first) = message {
            request.length = first.length
            request.usesLinuxFlags = first.usesLinuxFlags
            again = .request(request)
        }
        guard again == message else { throw fail("\(message) became \(again)", number, bytes) }
        try read(inside, number)
    }

    /// A spoiled packet inside, its checksums made right again.
    private mutating func inside(_ number: Int) throws(FuzzFailure) {
        let message = random.pick(seeds.filter { $0.count > 40 })
        try read(repaired(random.spoil(Array(message[Message.membershipHeaderLength...]))), number)
    }

    private func read(_ packet: [UInt8], _ number: Int) throws(FuzzFailure) {
        if let query = GeneralQuery(packet.span) {
            guard query.interval > .zero, query.robustness > 0 else {
                throw fail("a query of \(query)", number, packet)
            }
            guard let again = GeneralQuery(query.packet().span), again.interval <= query.interval else {
                throw fail("\(query) is not read again", number, packet)
            }
        }
        if let report = try? MembershipReport(packet.span) {
            let total = report.records.reduce(0) { $0 + $1.sources.count }
            guard report.records.count <= MembershipReport.recordLimit, total <= MembershipReport.sourceLimit else {
                throw fail("\(report.records.count) records, \(total) sources", number, packet)
            }
        }
        _ = DataHeader(packet.span)
        _ = TunnelNotice(packet.span, isIPv4: number & 1 == 0)
    }

    private mutating func notice(_ number: Int) throws(FuzzFailure) {
        let relay = SocketAddress(.v4(0xc633_6401), port: relayPort)
        let gateway = SocketAddress(.v4(UInt32(truncatingIfNeeded: random.next())), port: UInt16(random.below(65_536)))
        let mtu = UInt16(random.below(65_536))
        let octets = icmpError(code: 4, mtu: mtu, from: relay, to: gateway)
        guard let notice = TunnelNotice(octets.span, isIPv4: true), notice.relay == relay, notice.gateway == gateway,
            notice.kind == .tooLarge(mtu: Int(mtu))
        else { throw fail("a notice is not read", number, octets) }
        // IPv6 comes without the outer header; what is quoted is anything here.
        for isIPv4 in [true, false] {
            let bytes = random.spoil(isIPv4 ? octets : Array(octets[20...]))
            _ = TunnelNotice(bytes.span, isIPv4: isIPv4)
        }
    }

    /// One source of one record, or a record that has none.
    private struct Entry: Equatable {
        var kind: GroupRecord.Kind
        var group: IPAddress
        var source: IPAddress?
    }

    private func entries(_ records: [GroupRecord]) -> [Entry] {
        records.flatMap { record in
            record.sources.isEmpty
                ? [Entry(kind: record.kind, group: record.group)]
                : record.sources.map { Entry(kind: record.kind, group: record.group, source: $0) }
        }
    }

    /// Reports of any records: each part fits its packet, and nothing is lost or added.
    private mutating func report(_ number: Int) throws(FuzzFailure) {
        let isIPv4 = random.below(2) == 0
        let records = random.records(isIPv4: isIPv4, most: 6)
        var read: [Entry] = []
        for part in MembershipReport(family: isIPv4 ? .ipv4 : .ipv6, records: records).split() {
            let packet = part.packet()
            guard packet.count <= MembershipReport.packetLimit, let again = try? MembershipReport(packet.span),
                again == part
            else { throw fail("a part of \(packet.count) octets is not read alike", number, packet) }
            read += entries(again.records)
        }
        guard read == entries(records) else { throw fail("records changed on their way", number, []) }
    }

    /// Data on its way into the tunnel: what is divided comes out whole.
    private mutating func packet(_ number: Int) throws(FuzzFailure) {
        let isIPv4 = random.below(2) == 0
        let source = random.address(isIPv4: isIPv4, isGroup: false)
        let group = random.address(isIPv4: isIPv4, isGroup: true)
        guard group.isMulticast else { return }
        var packet = dataPacket(from: source, to: group, random.octets(1 + random.below(400)))
        if random.below(2) == 0 { packet = repaired(random.spoil(packet)) }
        let limit = random.below(4) == 0 ? random.below(80) : 68 + random.below(400)
        if let pieces = fragments(packet.span, limit: limit), let header = try? IPHeader(packet.span) {
            var octets: [UInt8] = []
            for piece in pieces {
                guard piece.count <= limit, let part = try? IPHeader(piece.span), part.source == header.source,
                    part.fragment?.offset ?? 0 == (header.fragment?.offset ?? 0) + octets.count
                else { throw fail("a fragment of \(piece.count) octets with a limit of \(limit)", number, packet) }
                octets += piece[part.payload]
            }
            guard octets == Array(packet[header.payload]) else { throw fail("fragments differ", number, packet) }
        }
        let segment = random.below(8) == 0 ? random.below(3) : 1 + random.below(200)
        if let pieces = splitSegments(packet.span, segment: segment), let header = try? IPHeader(packet.span) {
            var octets: [UInt8] = []
            for piece in pieces {
                guard let part = try? IPHeader(piece.span), let udp = UDPHeader(piece.span.extracting(part.payload)),
                    udp.isIntact(piece.span.extracting(part.payload), from: part.source, to: part.destination),
                    udp.length == part.payload.count, udp.length - UDPHeader.length <= segment
                else { throw fail("a segment of \(piece.count) octets", number, packet) }
                octets += piece[(part.headerLength + UDPHeader.length)..<part.totalLength]
            }
            guard octets == Array(packet[(header.headerLength + UDPHeader.length)..<header.totalLength]) else {
                throw fail("segments differ", number, packet)
            }
        }
    }
}
