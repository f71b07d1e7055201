import Wire

/// What a host says about one group (RFC 9776 section 4.2.12, RFC 9777 section 5.2.12).
public struct GroupRecord: Hashable, Sendable {
    /// The record type: its number is that of both protocols.
    public enum Kind: UInt8, Sendable, CaseIterable {
        /// The state is: only these sources.
        case isInclude = 1
        /// The state is: all but these sources.
        case isExclude = 2
        /// The state changes to: only these sources.
        case toInclude = 3
        /// The state changes to: all but these sources.
        case toExclude = 4
        /// These sources too.
        case allow = 5
        /// Not these sources any more.
        case block = 6
    }

    /// What the sources stand for.
    public var kind: Kind
    /// Which group; as it was read, so that it may be no multicast address.
    public var group: IPAddress
    /// As they were read: they may be of any kind, and come twice.
    public var sources: [IPAddress]

    /// `sources`: all of the group's IP version.
    public init(_ kind: Kind, _ group: IPAddress, _ sources: [IPAddress] = []) {
        self.kind = kind
        self.group = group
        self.sources = sources
    }
}

extension GroupRecord {
    /// With every source instead of the unspecified one, which is how VLC asks for any source over IPv6.
    var meantByVLC: GroupRecord {
        guard let source = sources.first, sources.count == 1, source.isUnspecified else { return self }
        switch kind {
        case .isInclude, .toInclude, .allow: return GroupRecord(.isExclude, group)
        case .block: return GroupRecord(.toInclude, group)
        case .isExclude, .toExclude: return self
        }
    }
}

extension IPAddress {
    /// Whether packets that a relay forwards may come from here: not unspecified, not multicast or broadcast, not of one link
    /// alone (RFC 6890, RFC 4291 sections 2.5.2 and 2.5.6).
    public var isSender: Bool {
        // A source beside the relay, in a pod say, sends on the loopback interface.
        guard !isMulticast, !isUnspecified else { return false }
        switch self {
        case .v4(let bits): return bits != .max && bits >> 16 != 0xa9fe
        case .v6(let bits): return bits >> 118 != 0x3fa
        }
    }
}

/// The report inside a Membership Update: IGMPv3 or MLDv2; IGMPv2 and MLDv1 are understood (RFC 7450 section 5.1.5.6).
public struct MembershipReport: Hashable, Sendable {
    /// The most records that are read from one packet.
    public static let recordLimit = 512
    /// The most sources of all records together that are read from one packet.
    public static let sourceLimit = 2048

    /// IPv4: IGMP; IPv6: MLD.
    public var family: DataFamily
    /// In the order of the packet.
    public var records: [GroupRecord]
    /// An IGMPv2 or MLDv1 message: no sources, and of no meaning in source-specific groups (RFC 4604 section 2.2).
    public var isOldVersion = false

    /// A report of version 3 of IGMP, or 2 of MLD.
    public init(family: DataFamily, records: [GroupRecord]) {
        self.family = family
        self.records = records
    }

    /// Why a packet is no report. All lengths and checksums are verified (RFC 7450 section 5.3.3.4).
    public enum Problem: Error, Hashable, Sendable {
        /// The IP header is not sound, or the packet is cut short.
        case ip(IPError)
        /// A record goes past the end.
        case truncated
        /// The checksum of IGMP or ICMPv6 is wrong.
        case checksum
        /// Some other protocol or message.
        case unexpected
        /// More records or sources than are read.
        case tooLarge
    }

    /// Reads the report in `packet`, which may have octets after it that do not count, and come from any address
    /// (RFC 7450 sections 5.3.1 and 5.3.3.4).
    public init(_ packet: Span<UInt8>) throws(Problem) {
        let header: IPHeader
        do throws(IPError) { header = try IPHeader(packet) } catch { throw .ip(error) }
        guard header.fragment == nil else { throw .unexpected }
        let body = packet.extracting(header.payload)
        switch (header.destination, header.protocolNumber) {
        case (.v4, IPProtocol.igmp):
            guard body.count >= 8 else { throw .truncated }
            var sum = InternetChecksum()
            sum.add(body)
            guard sum.value == 0 else { throw .checksum }
            self = try Self.igmp(body)
        case (.v6, IPProtocol.icmpv6):
            guard body.count >= 8 else { throw .truncated }
            var sum = InternetChecksum(
                from: header.source, to: header.destination, protocol: IPProtocol.icmpv6, length: body.count)
            sum.add(body)
            guard sum.value == 0 else { throw .checksum }
            self = try Self.mld(body)
        default: throw .unexpected
        }
    }

    private static func igmp(_ body: Span<UInt8>) throws(Problem) -> MembershipReport {
        var reader = ByteReader(body, at: 4)
        switch body[0] {
        case 0x22: return try MembershipReport(family: .ipv4, records: records(&reader, isIPv4: true))
        case 0x16, 0x17:
            guard let group = reader.uint32() else { throw .truncated }
            return old(.ipv4, body[0] == 0x16, .v4(group))
        default: throw .unexpected
        }
    }

    private static func mld(_ body: Span<UInt8>) throws(Problem) -> MembershipReport {
        var reader = ByteReader(body, at: 4)
        switch body[0] {
        case 143: return try MembershipReport(family: .ipv6, records: records(&reader, isIPv4: false))
        case 131, 132:
            guard reader.skip(4), let group = reader.address6() else { throw .truncated }
            return old(.ipv6, body[0] == 131, .v6(group))
        default: throw .unexpected
        }
    }

    /// A join of IGMPv2 or MLDv1 is "all but none", a leave "change to only none" (RFC 9776 section 7.3.2).
    private static func old(_ family: DataFamily, _ joins: Bool, _ group: IPAddress) -> MembershipReport {
        var report = MembershipReport(family: family, records: [GroupRecord(joins ? .isExclude : .toInclude, group)])
        report.isOldVersion = true
        return report
    }

    @_lifetime(reader: copy reader)
    private static func records(_ reader: inout ByteReader, isIPv4: Bool) throws(Problem) -> [GroupRecord] {
        guard reader.skip(2), let count = reader.uint16() else { throw .truncated }
        guard Int(count) <= recordLimit else { throw .tooLarge }
        var records: [GroupRecord] = []
        var total = 0
        for _ in 0..<count {
            guard let number = reader.uint8(), let auxiliary = reader.uint8(), let sourceCount = reader.uint16(),
                let group = address(&reader, isIPv4: isIPv4)
            else { throw .truncated }
            total += Int(sourceCount)
            guard total <= sourceLimit else { throw .tooLarge }
            var sources: [IPAddress] = []
            for _ in 0..<sourceCount {
                guard let source = address(&reader, isIPv4: isIPv4) else { throw .truncated }
                sources.append(source)
            }
            guard reader.skip(4 * Int(auxiliary)) else { throw .truncated }
            // Types to come are passed over (RFC 9776 section 4.2.13).
            if let kind = GroupRecord.Kind(rawValue: number) { records.append(GroupRecord(kind, group, sources)) }
        }
        return records
    }

    @_lifetime(reader: copy reader)
    private static func address(_ reader: inout ByteReader, isIPv4: Bool) -> IPAddress? {
        if isIPv4 { return reader.uint32().map(IPAddress.v4) }
        return reader.address6().map(IPAddress.v6)
    }

    // MARK: writing

    /// The most octets a report that we write takes, so that its tunnel packet fits every path.
    public static let packetLimit = 1200

    /// An IP packet with this report, from `source` or the unspecified address (RFC 7450 section 5.2.1). All records must
    /// fit `packetLimit`; `split` sees to that.
    public func packet(from source: IPAddress? = nil) -> [UInt8] {
        let isIPv4 = family == .ipv4
        let width = isIPv4 ? 4 : 16
        let size = 8 + records.reduce(0) { $0 + 4 + width + width * $1.sources.count }
        let from = source ?? (isIPv4 ? .v4(0) : .v6(0))
        let to: IPAddress = isIPv4 ? .v4(0xe000_0016) : .v6(0xff02 << 112 | 0x16)
        let number = isIPv4 ? IPProtocol.igmp : IPProtocol.icmpv6
        let body = [UInt8].written(capacity: size) { writer in
            writer.uint16(isIPv4 ? 0x2200 : 0x8f00)
            writer.zeros(4)
            writer.uint16(UInt16(records.count))
            for record in records {
                writer.uint16(UInt16(record.kind.rawValue) << 8)
                writer.uint16(UInt16(record.sources.count))
                writer.address(record.group)
                for source in record.sources { writer.address(source) }
            }
        }
        var sum =
            isIPv4
            ? InternetChecksum() : InternetChecksum(from: from, to: to, protocol: number, length: size)
        sum.add(body.span)
        return [UInt8].written(capacity: size + 48) { writer in
            IPHeader.write(
                to: &writer, from: from, to: to, protocol: number, payloadLength: size, hopLimit: 1,
                trafficClass: isIPv4 ? 0xc0 : 0, routerAlert: true)
            let start = writer.offset
            writer.octets(body.span)
            writer.patch(UInt64(sum.value), width: 2, at: start + 2)
        }
    }

    /// The same records in as many reports as keep each packet within `packetLimit`. A record with too many sources for
    /// one packet is divided too (RFC 9776 section 4.2.16); no kind that says "all but" may be so large.
    public func split() -> [MembershipReport] {
        let width = family == .ipv4 ? 4 : 16
        let room = Self.packetLimit - 48 - 8
        var reports: [MembershipReport] = []
        var current = MembershipReport(family: family, records: [])
        var used = 0
        for record in records {
            var rest = record.sources[...]
            repeat {
                if room - used < 4 + 2 * width, !current.records.isEmpty {
                    reports.append(current)
                    current.records = []
                    used = 0
                }
                let piece = rest.prefix((room - used - 4 - width) / width)
                current.records.append(GroupRecord(record.kind, record.group, Array(piece)))
                used += 4 + width + width * piece.count
                rest = rest.dropFirst(piece.count)
            } while !rest.isEmpty
        }
        if !current.records.isEmpty { reports.append(current) }
        return reports
    }
}
