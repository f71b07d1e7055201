import Wire

/// An object of several parts of which some have come.
struct TrackedObject: Sendable {
    struct Piece: Sendable {
        var index: UInt64
        var body: ArraySlice<UInt8>
    }

    /// Octets that a held part counts for beyond its body, so that many empty ones are bounded too.
    static let pieceOverhead = 64

    /// The header of its first part to come, with what later ones added.
    private(set) var header: PartHeader
    /// One past the highest number that is known to be its.
    private(set) var end: UInt64
    /// The parts held, by index.
    private(set) var pieces: [Piece] = []
    /// Parts that came, and the octets of their bodies.
    private(set) var received: UInt64 = 0
    private(set) var octets: UInt64 = 0
    private(set) var octetsFromFlow: UInt64 = 0
    /// It was given up. It stays known while nobody has said how many parts it has.
    private(set) var isEnded = false

    init(_ header: PartHeader) {
        self.header = header
        end = header.object
        learn(header)
    }

    var first: UInt64 { header.object }
    /// The numbers that are known to be its.
    var run: Range<UInt64> { first..<end }
    /// What it counts for in the room for held parts.
    var charge: Int { pieces.isEmpty ? 0 : Int(octets) + pieces.count * Self.pieceOverhead }
    var hasAllParts: Bool { received == header.count }

    /// In what a part contradicts those before it; nil when it fits.
    func contradiction(_ part: PartHeader, octets added: Int) -> ObjectsError.Field? {
        if let field = header.contradiction(to: part) { return field }
        if let count = part.count, count < end - first { return .count }
        if let count = header.count, part.index >= count { return .count }
        guard let length = part.length ?? header.length else { return nil }
        let total = octets + UInt64(added)
        let isLast = (part.count ?? header.count) == received + 1
        return total > length || isLast && total != length ? .length : nil
    }

    /// Takes what a header says of the object.
    mutating func learn(_ part: PartHeader) {
        if let count = part.count {
            header.count = count
            end = max(end, first + count)
        }
        if let length = part.length { header.length = length }
        end = max(end, part.sequence + 1)
    }

    func holds(_ index: UInt64) -> Bool {
        let place = place(of: index)
        return place < pieces.count && pieces[place].index == index
    }

    /// A part was taken, to be held or given out at once.
    mutating func count(_ body: ArraySlice<UInt8>, _ way: PartWay) {
        received += 1
        octets += UInt64(body.count)
        octetsFromFlow += way.octetsFromFlow(of: body)
    }

    mutating func hold(_ body: ArraySlice<UInt8>, at index: UInt64) {
        pieces.insert(Piece(index: index, body: body), at: place(of: index))
    }

    /// All bodies in order.
    func joined() -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(Int(octets))
        for piece in pieces { out.append(contentsOf: piece.body) }
        return out
    }

    /// Gives it up, and its parts.
    mutating func finish() {
        isEnded = true
        pieces = []
    }

    private func place(of index: UInt64) -> Int {
        // Nearly always behind the last one.
        guard let last = pieces.last, last.index >= index else { return pieces.count }
        return (0..<pieces.count).partitionPoint { pieces[$0].index < index }
    }
}
