import Wire

/// Reads messages from a control stream whose octets come in pieces of any size. It holds at most one message, and makes
/// room only for what has come.
public struct ControlDecoder: Sendable {
    private enum State: Sendable {
        /// The start of a type and a length.
        case framing
        case body(kind: UInt64, length: Int)
        /// So many octets of a message that is not known are still to be passed over.
        case skipping(Int)
        case failed(ObjectsError)
    }

    /// Who sends what is read here.
    public let sender: ControlMessage.Sender
    /// Messages that were skipped because their type is not known.
    public private(set) var skipped: UInt64 = 0
    private var state = State.framing
    private var held: [UInt8] = []

    /// - Parameter sender: whose stream it is. Messages that only the other side sends are errors on it.
    public init(from sender: ControlMessage.Sender) { self.sender = sender }

    /// Octets held of a message that is not all there.
    public var heldOctets: Int { held.count }

    /// Takes octets from `input` until a message is whole, which is the answer, or none are left: nil. Call it until then.
    /// Once it has thrown, it throws the same again: what follows on the stream cannot be told apart.
    @_lifetime(input: copy input)
    public mutating func next(from input: inout ByteReader) throws(ObjectsError) -> ControlMessage? {
        do {
            return try step(&input)
        } catch {
            state = .failed(error)
            held = []
            throw error
        }
    }

    /// The stream has ended. Throws when it did inside a message.
    public func finish() throws(ObjectsError) {
        switch state {
        case .framing where held.isEmpty: return
        case .failed(let error): throw error
        default: throw .truncated(.message)
        }
    }

    @_lifetime(input: copy input)
    private mutating func step(_ input: inout ByteReader) throws(ObjectsError) -> ControlMessage? {
        while true {
            switch state {
            case .failed(let error): throw error
            case .framing:
                // Octet by octet: few of them, and none too many is taken.
                guard let octet = input.uint8() else { return nil }
                held.append(octet)
                try readFraming()
            case .skipping(let count):
                let passed = min(count, input.remaining)
                _ = input.skip(passed)
                guard passed == count else {
                    state = .skipping(count - passed)
                    return nil
                }
                skipped += 1
                state = .framing
            case .body(let kind, let length):
                guard let octets = input.take(min(length - held.count, input.remaining)) else { return nil }
                held.append(octets)
                guard held.count == length else { return nil }
                let message = try ControlMessage.parse(kind: kind, held.span)
                held.removeAll(keepingCapacity: true)
                state = .framing
                return message
            }
        }
    }

    private mutating func readFraming() throws(ObjectsError) {
        var reader = ByteReader(held.span)
        guard let kind = reader.varint() else { return }
        let isKnown = try isKnown(kind)
        guard let length = reader.varint() else { return }
        guard length <= UInt64(ObjectLimits.messageOctets) else {
            throw .tooLong(.message, limit: UInt64(ObjectLimits.messageOctets))
        }
        held.removeAll(keepingCapacity: true)
        state = isKnown ? .body(kind: kind, length: Int(length)) : .skipping(Int(length))
    }

    /// Whether a message is to be read, not skipped.
    private func isKnown(_ kind: UInt64) throws(ObjectsError) -> Bool {
        let mayCome: Bool
        let element: ObjectsError.Element
        switch kind {
        case ControlMessage.Kind.position: (mayCome, element) = (sender == .client, .position)
        case ControlMessage.Kind.report: (mayCome, element) = (sender == .client, .report)
        case ControlMessage.Kind.log: (mayCome, element) = (sender == .source, .log)
        case ControlMessage.Kind.gap: (mayCome, element) = (sender == .source, .gap)
        case ControlMessage.Kind.end: (mayCome, element) = (sender == .source, .end)
        default:
            guard ControlMessage.Kind.mayBeSkipped(kind) else { throw .unknownMessage(kind) }
            return false
        }
        guard mayCome else { throw .wrongDirection(element) }
        return true
    }
}
