import Wire

/// The octets of a stream as they were written: pieces held by reference, so that many connections can send what is there
/// once.
struct StreamContent: Sendable {
    private struct Piece: Sendable {
        var offset: UInt64
        var bytes: ArraySlice<UInt8>
        var end: UInt64 { offset + UInt64(bytes.count) }
    }

    private var pieces: [Piece] = []
    /// The pieces before this one were let go of.
    private var head = 0
    /// One past the last octet written.
    private(set) var end: UInt64 = 0
    /// Octets still held.
    private(set) var held = 0

    init() {}

    mutating func append(_ octets: StreamOctets) {
        if octets.head.count > 0 { append(octets.head.array[...]) }
        append(octets.body)
    }

    private mutating func append(_ bytes: ArraySlice<UInt8>) {
        guard !bytes.isEmpty else { return }
        pieces.append(Piece(offset: end, bytes: bytes))
        end += UInt64(bytes.count)
        held += bytes.count
    }

    /// Holds `octets` as the stream's from its start on, in place of what was held.
    mutating func replace(with octets: StreamOctets) {
        discard()
        end = 0
        append(octets)
    }

    /// Lets go of the pieces that lie wholly below `offset`.
    mutating func release(below offset: UInt64) {
        while head < pieces.count, pieces[head].end <= offset {
            pieces[head].offset = pieces[head].end
            held -= pieces[head].bytes.count
            pieces[head].bytes = []
            head += 1
        }
        if head == pieces.count {
            // A stream on which nothing is under way may stay so for long.
            discard()
        } else if head >= 32, head * 2 >= pieces.count {
            // Rarely enough that the shift costs nothing in the mean.
            pieces.removeFirst(head)
            head = 0
        }
    }

    mutating func discard() {
        pieces = []
        head = 0
        held = 0
    }

    /// Writes the octets of `range`, which must be held.
    @_lifetime(writer: copy writer)
    func write(_ range: Range<UInt64>, into writer: inout ByteWriter) {
        var cursor = range.lowerBound
        var index = piece(at: cursor)
        while cursor < range.upperBound {
            let piece = pieces[index]
            let stop = min(piece.end, range.upperBound)
            let part = Int(cursor - piece.offset)..<Int(stop - piece.offset)
            writer.octets(piece.bytes.span.extracting(part))
            cursor = stop
            index += 1
        }
    }

    /// The piece that holds the octet at `offset`: its octets, and where they begin in the stream.
    func bytes(at offset: UInt64) -> (bytes: ArraySlice<UInt8>, start: UInt64) {
        let piece = pieces[piece(at: offset)]
        return (piece.bytes, piece.offset)
    }

    private func piece(at offset: UInt64) -> Int {
        return (head..<max(head, pieces.count - 1)).partitionPoint { pieces[$0].end <= offset }
    }
}
