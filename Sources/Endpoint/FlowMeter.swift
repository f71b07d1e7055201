import Reactor

/// Where a flow's CPU time goes. Reading the clock costs as much as sealing half a packet, so only some turns are
/// measured, and the clock's own cost is taken off.
final class FlowMeter {
    enum Part: Int, CaseIterable {
        /// Frames, packet records, acknowledgements: the flow machine.
        case flow
        /// Sealing and header masks.
        case cryptography
    }

    /// Whether this turn is measured. Set it before the turn.
    private(set) var isOn = false
    private var turn = 0
    private let every: Int
    private let clockCost: Int64
    private var last: Int64 = 0
    private var times: [Int64] = [0, 0]

    /// Measures one turn in `every`; none when that is 0.
    init(every: Int) {
        self.every = every
        var least = Int64.max
        for _ in 0..<100 {
            let start = Meters.threadTime
            least = min(least, Meters.threadTime - start)
        }
        clockCost = least
    }

    /// A turn begins: true when it is one to measure.
    func begin() -> Bool {
        turn += 1
        isOn = every > 0 && turn % every == 0
        return isOn
    }

    func end() { isOn = false }

    /// What follows is to be measured.
    func start() {
        if isOn { last = Meters.threadTime }
    }

    /// What came since the last `start` or `stop` belongs to `part`.
    func stop(_ part: Part) {
        guard isOn else { return }
        let now = Meters.threadTime
        times[part.rawValue] += max(0, now - last - clockCost)
        last = now
    }

    /// Nanoseconds of measured turns so far.
    subscript(part: Part) -> Int64 { times[part.rawValue] }
}
