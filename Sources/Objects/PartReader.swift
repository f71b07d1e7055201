import Wire

/// Reads a part's stream as its octets come, in pieces of any size. It holds no more than one prelude and one body, and
/// makes room only for what has come, never for what a peer says will come.
public struct PartReader: Sendable {
    private enum State: Sendable {
        case prelude([UInt8])
        case body(PartHeader, [UInt8])
        case failed(ObjectsError)
    }

    private var state = State.prelude([])

    public init() {}

    /// The header, once it is all there.
    public var header: PartHeader? {
        if case .body(let header, _) = state { header } else { nil }
    }

    /// Octets held.
    public var heldOctets: Int {
        switch state {
        case .prelude(let octets): octets.count
        case .body(_, let octets): octets.count
        case .failed: 0
        }
    }

    /// Takes in the next octets of the stream. Once it has thrown, it throws the same again: the rest is of no use.
    public mutating func read(_ octets: Span<UInt8>) throws(ObjectsError) {
        do {
            try step(octets)
        } catch {
            state = .failed(error)
            throw error
        }
    }

    /// The stream has ended: the part, whole. The reader is of no use after it.
    public mutating func finish() throws(ObjectsError) -> (header: PartHeader, body: [UInt8]) {
        switch state {
        case .prelude: throw .truncated(.header)
        case .failed(let error): throw error
        case .body(let header, let body):
            state = .failed(.truncated(.part))
            return (header, body)
        }
    }

    private mutating func step(_ octets: Span<UInt8>) throws(ObjectsError) {
        switch state {
        case .failed(let error): throw error
        case .prelude(var held):
            // Out of the state while it grows: with two owners it would be copied.
            state = .prelude([])
            let before = held.count
            held.append(octets.extracting(first: min(octets.count, ObjectLimits.preludeOctets - before)))
            if let (header, length) = try PartHeader.parse(held.span) {
                state = .body(header, [])
                try step(octets.extracting(droppingFirst: length - before))
            } else {
                state = .prelude(held)
            }
        case .body(let header, var body):
            guard octets.count <= ObjectLimits.partOctets - body.count else {
                throw .tooLong(.part, limit: UInt64(ObjectLimits.partOctets))
            }
            state = .failed(.truncated(.part))
            body.append(octets)
            state = .body(header, body)
        }
    }
}
