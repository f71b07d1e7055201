import Testing
import Wire

@testable import Flexicast

@Suite struct SwitchWalkTests {
    /// Walks that failed once, as short as they can be.
    static let replays: [[SwitchWalk.Operation]] = [
        [
            .join(1), .ready(1), .publish(2413), .publish(2948), .position(1, 1), .transmit, .publish(516065),
            .wait(1100),
            .publish(2797), .publish(20000), .publish(2254), .publish(2107), .publish(516065), .publish(20000),
        ],
        // Parts of one object that go different ways, as the receiver leaves the flow.
        [.position(0, 2), .join(0), .ready(0), .block(0), .publish(520_000), .evict(0), .unblock(0)],
        // It said nothing in time, was sent a part, and said then that it has it: the part was given once more as it joined.
        [.wait(1100), .publish(103), .join(1), .ready(1), .publish(1723), .position(0, 3), .join(0)],
        // A part's lifetime ended before the flow had sent it; to whom became a member since, its cursor was to bring it.
        [.join(1), .join(0), .ready(1), .publishUntil(9000, 3), .ready(0), .wait(1100)],
        [
            .join(1), .wait(1100), .join(2), .ready(1), .publishUntil(100, 3), .ready(2), .wait(100), .block(2),
            .position(2, 0),
        ],
    ]

    @Test(arguments: replays.indices)
    func replay(index: Int) {
        let problem = SwitchWalk.run(Self.replays[index])
        #expect(problem == nil, "replay \(index)")
    }

    @Test(arguments: Array(1...24) + [13_537_109_411_874_690_040] as [UInt64])
    func walk(seed: UInt64) { walk(150, seed: seed) }

    /// Other walks each time.
    @Test func freshWalks() {
        for _ in 0..<40 { walk(150, seed: UInt64.random(in: .min ... .max)) }
    }

    private func walk(_ count: Int, seed: UInt64) {
        let operations = SwitchWalk.random(count, seed: seed)
        guard let problem = SwitchWalk.run(operations) else { return }
        let least = SwitchWalk.shrunk(operations)
        Issue.record(
            "seed \(seed): \(problem)\n\(SwitchWalk.run(least) ?? "")\n[\(least.map(\.description).joined(separator: ", "))]"
        )
    }
}
