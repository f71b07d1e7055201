import Testing
import Wire

@testable import Flexicast

@Suite struct SwitchWalkTests {
    /// Walks that failed once, as short as they can be.
    static let replays: [[SwitchWalk.Operation]] = [
        // The object's parts were not all handed out as the receiver, for which too much waited, left the flow for them.
        [.position(0, 2), .join(0), .ready(0), .block(0), .publish(520_000), .evict(0), .unblock(0)]
    ]

    @Test(arguments: replays.indices)
    func replay(index: Int) {
        let problem = SwitchWalk.run(Self.replays[index])
        #expect(problem == nil, "replay \(index)")
    }

    @Test(arguments: 1...24 as ClosedRange<UInt64>)
    func walk(seed: UInt64) { walk(150, seed: seed) }

    /// Other walks each time.
    @Test func freshWalks() {
        for _ in 0..<8 { walk(150, seed: UInt64.random(in: .min ... .max)) }
    }

    private func walk(_ count: Int, seed: UInt64) {
        let operations = SwitchWalk.random(count, seed: seed)
        guard let problem = SwitchWalk.run(operations) else { return }
        let least = SwitchWalk.shrunk(operations)
        Issue.record("seed \(seed): \(problem)\n\(SwitchWalk.run(least) ?? "")\n[\(least.map(\.description).joined(separator: ", "))]")
    }
}
