import Wire

/// A connection ID of 0 to 20 octets (RFC 9000 section 5.1), or a Flexicast Flow ID, which takes its place on a
/// multicast flow.
public struct ConnectionID: Hashable, Sendable {
    // Three words instead of an array: comparing and hashing then cost no allocation.
    fileprivate private(set) var words: (UInt64, UInt64, UInt64)
    /// Octets of it, 0 to 20.
    public let count: Int

    /// The longest that version 1 allows (RFC 9000 section 17.2).
    public static let maxLength = 20

    /// nil when `octets` is longer than `maxLength`.
    public init?(_ octets: Span<UInt8>) {
        guard octets.count <= Self.maxLength else { return nil }
        words = (0, 0, 0)
        count = octets.count
        for index in octets.indices { self[index] = octets[index] }
    }

    /// Of eight octets.
    fileprivate init(_ word: UInt64) {
        words = (word, 0, 0)
        count = 8
    }

    /// nil when `octets` is longer than `maxLength`.
    public init?(_ octets: [UInt8]) { self.init(octets.span) }

    /// The ID of no octets.
    public static let empty = ConnectionID([])!

    /// The octet at `index`, below `count`.
    public private(set) subscript(index: Int) -> UInt8 {
        get {
            let word = index < 8 ? words.0 : index < 16 ? words.1 : words.2
            return UInt8(truncatingIfNeeded: word >> UInt64(56 - 8 * (index & 7)))
        }
        set {
            let bits = UInt64(newValue) << UInt64(56 - 8 * (index & 7))
            if index < 8 { words.0 |= bits } else if index < 16 { words.1 |= bits } else { words.2 |= bits }
        }
    }

    /// The first eight octets as a number: enough to look a connection up by an ID that we chose with eight octets.
    public var prefix: UInt64 { words.0 }

    /// All of it, the first octet of the wire first.
    public var octets: [UInt8] { (0..<count).map { self[$0] } }

    public static func == (a: ConnectionID, b: ConnectionID) -> Bool {
        a.count == b.count && a.words == b.words
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(words.0)
        hasher.combine(words.1)
        hasher.combine(words.2)
        hasher.combine(count)
    }
}

extension ConnectionID: CustomStringConvertible {
    /// Lower-case hexadecimal.
    public var description: String {
        octets.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}

extension ByteReader {
    /// The next `count` octets as a connection ID; nil when there are fewer, or more than 20 are asked for.
    @_lifetime(self: copy self)
    mutating func connectionID(_ count: Int) -> ConnectionID? {
        // Ours have eight, and every packet that comes has one of ours.
        if count == 8 { return uint64().map { ConnectionID($0) } }
        guard count <= ConnectionID.maxLength, let octets = take(count) else { return nil }
        return ConnectionID(octets)
    }
}

extension ByteWriter {
    @_lifetime(self: copy self)
    mutating func connectionID(_ id: ConnectionID) {
        first(id.count, of: id.words.0)
        if id.count > 8 { first(id.count - 8, of: id.words.1) }
        if id.count > 16 { first(id.count - 16, of: id.words.2) }
    }

    /// The first `count` octets of `word`, or all eight.
    @inline(__always)
    @_lifetime(self: copy self)
    private mutating func first(_ count: Int, of word: UInt64) {
        if count >= 8 { uint64(word) } else { bigEndian(word >> UInt64(64 - 8 * count), width: count) }
    }
}
