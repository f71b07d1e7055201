import Wire

// As much of DNS (RFC 1035) as relay discovery asks for: one question, and the answers to it.

/// Types of resource records.
public enum DNSType: UInt16, Hashable, Sendable {
    /// An IPv4 address (RFC 1035 section 3.4.1).
    case a = 1
    /// The name that this one is an alias of (RFC 1035 section 3.3.1).
    case cname = 5
    /// Another name: here an instance of a service (RFC 6763 section 4.1).
    case ptr = 12
    /// An IPv6 address (RFC 3596 section 2.2).
    case aaaa = 28
    /// Host and port of a service (RFC 2782).
    case srv = 33
    /// Where a subtree is found (RFC 6672).
    case dname = 39
    /// Which relay forwards a source's packets (RFC 8777 section 4).
    case amtRelay = 260
}

/// What is asked for.
public struct DNSQuestion: Hashable, Sendable {
    /// Whose records are asked for.
    public var name: DomainName
    /// Which of its records.
    public var type: DNSType

    /// A question in the Internet's class (RFC 1035 section 4.1.2).
    public init(_ name: DomainName, _ type: DNSType) {
        self.name = name
        self.type = type
    }
}

/// Where a service is (RFC 2782).
public struct ServiceRecord: Hashable, Sendable {
    /// Lower ones are tried first.
    public var priority: UInt16
    /// Among equal priorities, the share of those who try this one first.
    public var weight: UInt16
    /// Where the service listens.
    public var port: UInt16
    /// The host that has it; the root: there is no such service.
    public var target: DomainName

    /// A record as a zone would have it.
    public init(priority: UInt16, weight: UInt16, port: UInt16, target: DomainName) {
        self.priority = priority
        self.weight = weight
        self.port = port
        self.target = target
    }
}

/// What a resource record says.
public enum DNSData: Hashable, Sendable {
    /// A or AAAA: the owner has this address.
    case address(IPAddress)
    /// CNAME: the owner is an alias of this name.
    case alias(DomainName)
    /// DNAME: everything below the owner is found below this name.
    case subtree(DomainName)
    /// PTR: this name is an instance of the service (RFC 6763 section 4.1).
    case pointer(DomainName)
    /// SRV (RFC 2782).
    case service(ServiceRecord)
    /// AMTRELAY (RFC 8777 section 4.2).
    case amtRelay(AMTRelayRecord)
}

/// A query for one question, to a resolver.
public struct DNSQuery: Hashable, Sendable {
    /// What we take in one datagram (RFC 6891 section 6.2.5), small enough for every path.
    static let payloadLimit: UInt16 = 1232

    /// What the response brings back (RFC 1035 section 4.1.1): nobody may guess it (RFC 5452).
    public var id: UInt16
    /// The one question.
    public var question: DNSQuestion
    /// Whether larger answers are asked for (EDNS, RFC 6891).
    public var hasExtension: Bool

    /// `id` has to be random.
    public init(id: UInt16, question: DNSQuestion, hasExtension: Bool = true) {
        self.id = id
        self.question = question
        self.hasExtension = hasExtension
    }

    /// Octets of the message, a UDP payload.
    public var bytes: [UInt8] {
        [UInt8].written(capacity: 12 + DomainName.octetLimit + 4 + 11) { writer in
            writer.uint16(id)
            // Recursion desired.
            writer.uint16(0x0100)
            writer.uint16(1)
            writer.uint32(0)
            writer.uint16(hasExtension ? 1 : 0)
            question.name.write(to: &writer)
            writer.uint16(question.type.rawValue)
            writer.uint16(1)
            guard hasExtension else { return }
            writer.uint8(0)
            writer.uint16(41)
            writer.uint16(Self.payloadLimit)
            writer.uint32(0)
            writer.uint16(0)
        }
    }
}

/// A resolver's response to a query of ours.
public struct DNSResponse: Hashable, Sendable {
    /// Records of one response that are looked at.
    static let recordLimit = 64

    /// RCODE (RFC 1035 section 4.1.1).
    public enum Code: Hashable, Sendable {
        /// 0: the answers are there, if there are any.
        case success
        /// 1: the server does not understand the query, such as one with an extension.
        case formatError
        /// 3: the name does not exist.
        case noSuchName
        /// Server failure, refused, and the like.
        case failure(UInt8)
    }

    /// A resource record (RFC 1035 section 4.1.3).
    public struct Record: Hashable, Sendable {
        /// The name that it belongs to.
        public var owner: DomainName
        /// What it says.
        public var data: DNSData
    }

    /// What became of the query.
    public var code: Code
    /// The answer did not fit into the datagram.
    public var isTruncated: Bool
    /// The answer section, without records of other types and without those that are malformed.
    public var answers: [Record] = []

    /// Reads the response to `query`; nil for what is none: another id, question, type or class, or malformed.
    public init?(_ bytes: Span<UInt8>, to query: DNSQuery) {
        var reader = ByteReader(bytes)
        guard let id = reader.uint16(), id == query.id, let flags = reader.uint16(), let questions = reader.uint16(),
            let count = reader.uint16(), reader.skip(4),
            // A response to a standard query.
            flags & 0x8000 != 0, flags & 0x7800 == 0, questions == 1,
            reader.domainName(compressed: true) == query.question.name,
            reader.uint16() == query.question.type.rawValue, reader.uint16() == 1
        else { return nil }
        isTruncated = flags & 0x0200 != 0
        switch flags & 15 {
        case 0: code = .success
        case 1: code = .formatError
        case 3: code = .noSuchName
        default: code = .failure(UInt8(flags & 15))
        }
        for _ in 0..<min(Int(count), Self.recordLimit) {
            guard let owner = reader.domainName(compressed: true), let type = reader.uint16(),
                let recordClass = reader.uint16(), reader.skip(4), let length = reader.uint16()
            else { if isTruncated { break } else { return nil } }
            let start = reader.offset
            guard reader.skip(Int(length)) else { if isTruncated { break } else { return nil } }
            // AMTRELAY has no class of its own (RFC 8777 section 4.1); we asked in the Internet's.
            guard recordClass == 1, let data = Self.data(type, bytes, start..<reader.offset) else { continue }
            answers.append(Record(owner: owner, data: data))
        }
    }

    private static func data(_ type: UInt16, _ message: Span<UInt8>, _ range: Range<Int>) -> DNSData? {
        // Names in the data may point anywhere before.
        var reader = ByteReader(message.extracting(0..<range.upperBound), at: range.lowerBound)
        let data: DNSData
        switch DNSType(rawValue: type) {
        case .a:
            guard let bits = reader.uint32() else { return nil }
            data = .address(.v4(bits))
        case .aaaa:
            guard let high = reader.uint64(), let low = reader.uint64() else { return nil }
            data = .address(.v6(UInt128(high) << 64 | UInt128(low)))
        case .cname, .dname, .ptr:
            guard let name = reader.domainName(compressed: true) else { return nil }
            switch type {
            case DNSType.cname.rawValue: data = .alias(name)
            case DNSType.ptr.rawValue: data = .pointer(name)
            default: data = .subtree(name)
            }
        case .srv:
            guard let priority = reader.uint16(), let weight = reader.uint16(), let port = reader.uint16(),
                let target = reader.domainName(compressed: true)
            else { return nil }
            data = .service(ServiceRecord(priority: priority, weight: weight, port: port, target: target))
        case .amtRelay: return AMTRelayRecord(message.extracting(range)).map(DNSData.amtRelay)
        case nil: return nil
        }
        return reader.isAtEnd ? data : nil
    }
}
