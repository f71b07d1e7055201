/// Repairs of one member as they gather: neighbouring frames of a stream leave as one part.
///
/// It belongs to who made it, and is handed on `inout` until `FlowSource.send`: what is meant for one member cannot be left
/// for another.
struct RepairBatch: ~Copyable, Sendable {
    /// A part of a stream, to be sent on the member's own connection.
    struct Part: Sendable, Equatable {
        var stream: UInt64
        var range: Range<UInt64>
        var fin: Bool
        /// It has not been sent on the flow, and so counts for flow control.
        var counted: Bool
    }

    let slot: Int
    private var last: Part?
    /// The stream that its member was told last not to wait for.
    var expired: UInt64?

    init(for slot: Int) { self.slot = slot }

    /// Takes a part; what it does not continue is to be sent now.
    mutating func add(_ part: Part) -> Part? {
        guard let before = last, before.stream == part.stream, before.counted == part.counted, !before.fin,
            before.range.upperBound == part.range.lowerBound
        else {
            defer { last = part }
            return last
        }
        last?.range = before.range.lowerBound..<part.range.upperBound
        last?.fin = part.fin
        return nil
    }

    /// What is left.
    mutating func take() -> Part? {
        defer { last = nil }
        return last
    }
}
