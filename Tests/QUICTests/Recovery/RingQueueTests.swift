import Testing
import Wire

@testable import QUIC

@Suite("Ring queues")
struct RingQueueTests {
    @Test("a queue like any other", arguments: 0..<5 as Range<UInt64>)
    func model(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var ring = RingQueue<Int>()
        var model: [Int] = []
        for value in 0..<2000 {
            if Int.random(in: 0..<5, using: &random) < (value % 400 < 200 ? 4 : 1) {
                ring.append(value)
                model.append(value)
            } else if !model.isEmpty {
                let number = Int.random(in: 0...min(3, model.count), using: &random)
                ring.removeFirst(number)
                model.removeFirst(number)
            }
            #expect(ring.count == model.count)
            #expect(ring.first == model.first)
            if value % 50 == 0 { #expect((0..<ring.count).map { ring[$0] } == model) }
        }
        ring.removeAll()
        #expect(ring.isEmpty)
        ring.removeFirst(0)
    }
}
