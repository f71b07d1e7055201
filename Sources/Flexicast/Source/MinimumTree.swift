/// The minimum over many members' values, kept current in O(log members) per change: a tournament over a complete
/// binary tree whose leaves are the members' slots.
struct MinimumTree: Sendable {
    /// What an empty slot holds.
    static let none = UInt64.max

    private var nodes: [UInt64] = [none, none]
    private var leaves = 1
    /// Tree nodes touched so far, for tests that bound the work.
    private(set) var steps: UInt64 = 0

    /// The smallest value, or `none` when every slot is empty.
    var minimum: UInt64 { nodes[1] }

    subscript(slot: Int) -> UInt64 {
        slot < leaves ? nodes[leaves + slot] : Self.none
    }

    mutating func set(_ slot: Int, _ value: UInt64) {
        if slot >= leaves { grow(toHold: slot) }
        var node = leaves + slot
        guard nodes[node] != value else { return }
        nodes[node] = value
        while node > 1 {
            node >>= 1
            steps += 1
            let smaller = min(nodes[2 * node], nodes[2 * node + 1])
            if nodes[node] == smaller { return }
            nodes[node] = smaller
        }
    }

    mutating func clear(_ slot: Int) { set(slot, Self.none) }

    /// A slot that holds the minimum.
    var slotOfMinimum: Int? {
        guard minimum != Self.none else { return nil }
        var node = 1
        while node < leaves { node = nodes[2 * node] == minimum ? 2 * node : 2 * node + 1 }
        return node - leaves
    }

    /// Appends the slots whose value is below `bound` to `slots`: O(found x log members).
    func slots(below bound: UInt64, into slots: inout [Int]) {
        collect(1, below: bound, into: &slots)
    }

    private func collect(_ node: Int, below bound: UInt64, into slots: inout [Int]) {
        guard nodes[node] < bound else { return }
        if node >= leaves {
            slots.append(node - leaves)
        } else {
            collect(2 * node, below: bound, into: &slots)
            collect(2 * node + 1, below: bound, into: &slots)
        }
    }

    private mutating func grow(toHold slot: Int) {
        let old = (0..<leaves).map { nodes[leaves + $0] }
        while leaves <= slot { leaves *= 2 }
        nodes = Array(repeating: Self.none, count: 2 * leaves)
        for (slot, value) in old.enumerated() { nodes[leaves + slot] = value }
        for node in stride(from: leaves - 1, through: 1, by: -1) {
            nodes[node] = min(nodes[2 * node], nodes[2 * node + 1])
        }
    }
}
