import Wire

/// The number that a datagram begins with (docs/objects.md), as a varint: one more for each that the source sends. By it a
/// receiver knows what came by the flow and on its connection.
enum DatagramNumber {
    /// Octets that the number takes at most.
    static var mostOctets: Int { 8 }

    static func put(_ number: UInt64, before octets: [UInt8]) -> [UInt8] {
        [UInt8].written(capacity: mostOctets + octets.count) { writer in
            writer.varint(number)
            writer.octets(octets.span)
        }
    }
}

/// Which datagrams have come, so that none is given out twice.
struct DatagramWindow: Sendable {
    /// So many numbers up to the highest are told apart. Older ones are taken for known: more wait on no connection.
    static var width: UInt64 { 1024 }

    /// One past the highest that has come.
    private var end: UInt64 = 0
    /// By number, modulo the width.
    private var isKnown = [Bool](repeating: false, count: Int(width))

    /// Whether the datagram is new. It is known from then on.
    mutating func take(_ number: UInt64) -> Bool {
        guard number <= Varint.max, number + Self.width >= end else { return false }
        if number >= end {
            for passed in max(end, number + 1 - min(number + 1, Self.width))...number { isKnown[place(passed)] = false }
            end = number + 1
        }
        guard !isKnown[place(number)] else { return false }
        isKnown[place(number)] = true
        return true
    }

    private func place(_ number: UInt64) -> Int { Int(number % Self.width) }
}
