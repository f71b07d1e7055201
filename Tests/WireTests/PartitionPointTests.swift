import Testing
import Wire

@Suite("Binary search") struct PartitionPointTests {
    /// Against looking at one after the other, for all places in short ranges, with numbers of both kinds.
    @Test func itFindsWhatLookingAtEachFinds() {
        for count in 0..<12 {
            for place in 0...count {
                let signed = ((-3)..<(count - 3)).partitionPoint { $0 < place - 3 }
                #expect(signed == place - 3)
                let low = UInt64.max - 20
                let unsigned = (low..<(low + UInt64(count))).partitionPoint { $0 < low + UInt64(place) }
                #expect(unsigned == low + UInt64(place))
            }
        }
    }

    @Test func itLooksAtFew() {
        var looks = 0
        let found = (0..<1_000_000).partitionPoint {
            looks += 1
            return $0 < 777_777
        }
        #expect(found == 777_777 && looks <= 20)
    }
}
