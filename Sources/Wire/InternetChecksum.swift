/// The checksum of IP, UDP, ICMP and IGMP headers (RFC 1071): the ones' complement of the ones' complement sum of all
/// 16-bit words. Octets may come in pieces of any length.
public struct InternetChecksum: Sendable {
    private var sum: UInt64 = 0
    /// Whether an odd number of octets has been added: the next one is the low half of a word.
    private var isOdd = false

    /// The checksum of nothing.
    public init() {}

    /// A checksum that begins with the pseudo header of UDP and ICMPv6: both addresses, the length and the protocol
    /// (RFC 768, RFC 8200 section 8.1). Both addresses are of one IP version.
    public init(from source: IPAddress, to destination: IPAddress, protocol number: UInt8, length: Int) {
        add(source)
        add(destination)
        add(UInt32(truncatingIfNeeded: length))
        add(UInt16(number))
    }

    /// Adds a word; an even number of octets must have come before it.
    public mutating func add(_ word: UInt16) {
        precondition(!isOdd)
        sum += UInt64(word)
    }

    /// Adds two words, the upper half first; an even number of octets must have come before them.
    public mutating func add(_ words: UInt32) {
        precondition(!isOdd)
        sum += UInt64(words >> 16) + UInt64(words & 0xffff)
    }

    /// Adds the address's octets; an even number of octets must have come before them.
    public mutating func add(_ address: IPAddress) {
        switch address {
        case .v4(let bits): add(bits)
        case .v6(let bits):
            for shift in stride(from: 96, through: 0, by: -32) {
                add(UInt32(truncatingIfNeeded: bits >> UInt128(shift)))
            }
        }
    }

    /// Adds octets, an odd number of them too: the next ones go on in the middle of a word.
    public mutating func add(_ octets: Span<UInt8>) {
        var index = 0
        if isOdd, octets.count > 0 {
            sum += UInt64(octets[0])
            index = 1
            isOdd = false
        }
        // A sum of 32-bit words folds to that of their halves (RFC 1071 section 2). In pieces of a known size an octet's
        // index needs no check, and four octets are one load.
        var rest = octets.extracting(droppingFirst: index)
        while rest.count >= 32 {
            let piece = rest.extracting(first: 32)
            rest = rest.extracting(droppingFirst: 32)
            for place in stride(from: 0, to: 32, by: 4) {
                let high = UInt64(piece[place]) << 24 | UInt64(piece[place + 1]) << 16
                sum &+= high | UInt64(piece[place + 2]) << 8 | UInt64(piece[place + 3])
            }
        }
        index = octets.count - rest.count
        while index + 1 < octets.count {
            sum += UInt64(octets[index]) << 8 | UInt64(octets[index + 1])
            index += 2
        }
        if index < octets.count {
            sum += UInt64(octets[index]) << 8
            isOdd = true
        }
    }

    /// The checksum of all that was added. Over octets that hold a correct checksum it is zero.
    public var value: UInt16 {
        var folded = sum
        while folded >> 16 != 0 { folded = (folded & 0xffff) + (folded >> 16) }
        return ~UInt16(truncatingIfNeeded: folded)
    }
}
