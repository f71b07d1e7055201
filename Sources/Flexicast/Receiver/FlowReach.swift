import QUIC
import Wire

/// Which numbers of a flow's packets came, as counts: what is missing between the first and the last of each key.
///
/// Numbers that a source leaves between two keys never were packets, so each key is counted by itself. Of a key that was
/// there from its first packet on, the first number is known; what its last was is not.
struct FlowReach: Sendable {
    private struct Span: Sendable {
        var generation: UInt64
        var first: UInt64
        var last: UInt64
        var count: UInt64

        var missing: UInt64 {
            let all = last - first + 1
            return all - min(all, count)
        }
    }

    /// At most two: a receiver has no more keys.
    private var spans: [Span] = []
    /// Missing in spans that are over.
    private var missingBefore: UInt64 = 0

    /// Numbers that did not come.
    var missing: UInt64 { spans.reduce(missingBefore) { $0 + $1.missing } }

    /// `new` of these numbers, opened with the key of this generation, came for the first time and count as received.
    /// `keyBegins` is the first packet number of that key.
    mutating func note(_ numbers: ClosedRange<UInt64>, new: Int, generation: UInt64, keyBegins: UInt64) {
        guard new > 0 else { return }
        let last = spans.count - 1
        if last >= 0, spans[last].generation == generation {
            extend(last, numbers, new)
        } else if let index = spans.firstIndex(where: { $0.generation == generation }) {
            extend(index, numbers, new)
        } else {
            if spans.count == 2 { missingBefore += spans.removeFirst().missing }
            // The first key of all is joined in its midst.
            let first = spans.isEmpty ? numbers.lowerBound : min(keyBegins, numbers.lowerBound)
            spans.append(Span(generation: generation, first: first, last: numbers.upperBound, count: UInt64(new)))
        }
    }

    private mutating func extend(_ index: Int, _ numbers: ClosedRange<UInt64>, _ new: Int) {
        spans[index].first = min(spans[index].first, numbers.lowerBound)
        spans[index].last = max(spans[index].last, numbers.upperBound)
        spans[index].count += UInt64(new)
    }

    /// What was missing until now is asked for no more. Returns how many that were.
    mutating func forget() -> UInt64 {
        defer { self = FlowReach() }
        return missing
    }
}
