import Testing
import Wire

@testable import QUIC

/// The map against a dictionary.
@Suite struct StreamMapTests {
    private func id(_ number: UInt64) -> StreamID { StreamID(number) }

    /// Whatever is put in, changed, asked for and taken out, in whatever order, a dictionary would say the same.
    @Test(arguments: 0..<20 as Range<UInt64>)
    func isADictionary(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var map = StreamMap<UInt64>()
        var model: [StreamID: UInt64] = [:]
        // Indexes since the last removal.
        var indexes: [StreamID: StreamMap<UInt64>.Index] = [:]
        for step in 0..<500 as Range<UInt64> {
            // Few IDs, so that they come back; more of them in some runs.
            let id = id(random.next() % (3 + seed))
            switch random.next() % 8 {
            case 0...2 where model[id] == nil:
                indexes[id] = map.insert(step, id: id)
                model[id] = step
            case 3:
                model[id] = nil
                guard let index = map.index(of: id) else { break }
                map.remove(index)
                indexes = [:]
            case 4...5:
                guard let index = map.index(of: id) else { break }
                map[index] &+= step
                model[id]? &+= step
                indexes[id] = index
            case 6:
                guard let (id, index) = indexes.sorted(by: { $0.key < $1.key }).randomElement(using: &random) else {
                    break
                }
                map[index] ^= 1
                model[id]? ^= 1
            default: break
            }
            #expect(map.count == model.count)
            #expect(Set(map.ids) == Set(model.keys))
            #expect(map.streams.sorted() == model.values.sorted())
            for number in 0..<(4 + seed) {
                let id = self.id(number)
                #expect(map.contains(id) == (model[id] != nil))
                #expect(map.index(of: id).map { map[$0] } == model[id])
            }
            for (id, index) in indexes {
                #expect(map[index] == model[id])
                #expect(map.index(of: id) == index)
            }
        }
    }
}
