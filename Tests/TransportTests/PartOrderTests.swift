import Objects
import Testing
import Wire

@testable import Transport

/// Parts of objects come in any order and go out in theirs.
@Suite struct PartOrderTests {
    private func part(
        _ index: UInt64, of object: UInt64, count: UInt64? = nil, completes: Bool = false, octets: Int = 10
    ) -> ReceivedPart {
        ReceivedPart(
            header: PartHeader(
                sequence: object + index, index: index, count: count, length: nil,
                published: WallTime(nanoseconds: 0), mediaType: "", name: "n"),
            body: [UInt8](repeating: UInt8(truncatingIfNeeded: index), count: octets)[...], way: .flow, latency: nil,
            completes: completes)
    }

    /// All orders of five parts of two objects give the same.
    @Test func anyOrderGivesTheOrderOfTheObject() {
        var random = SeededRandom(seed: 7)
        for _ in 0..<200 {
            var order = PartOrder()
            var parts: [(UInt64, UInt64)] = []
            for index in UInt64(0)..<5 { parts += [(0, index), (100, index)] }
            parts.shuffle(using: &random)
            var out: [UInt64: [UInt8]] = [:]
            var ended: Set<UInt64> = []
            var left: [UInt64: Int] = [0: 5, 100: 5]
            for (object, index) in parts {
                left[object]! -= 1
                let last = index == 4
                for step in order.take(
                    part(index, of: object, count: last ? 5 : nil, completes: left[object] == 0), via: .flow)
                {
                    switch step {
                    case .opened(let header):
                        #expect(out[header.object] == nil)
                        out[header.object] = []
                    case .data(let object, let bytes, _): out[object]?.append(bytes[bytes.startIndex])
                    case .finished(let object): #expect(ended.insert(object).inserted)
                    case .gaveUp: Issue.record("there was room")
                    }
                }
            }
            #expect(out == [0: [0, 1, 2, 3, 4], 100: [0, 1, 2, 3, 4]])
            #expect(ended == [0, 100] && order.heldOctets == 0 && order.openObjects.isEmpty)
        }
    }

    @Test func whatWaitsIsBoundedAndItsObjectAloneEnds() {
        var order = PartOrder(limit: 25)
        let answer1 = order.take(part(0, of: 0), via: .flow)
        #expect(answer1.count == 2)
        let answer2 = order.take(part(2, of: 0), via: .flow)
        #expect(answer2.isEmpty)
        let answer3 = order.take(part(3, of: 0), via: .flow)
        #expect(answer3.isEmpty)
        let answer4 = order.take(part(0, of: 100), via: .flow)
        #expect(answer4.count == 2)
        let answer5 = order.take(part(4, of: 0), via: .flow)
        #expect(answer5 == [.gaveUp(object: 0)])
        #expect(order.heldOctets == 0 && order.openObjects == [100])
        let answer6 = order.take(part(1, of: 0), via: .flow)
        #expect(answer6.isEmpty, "it is over")
        let answer7 = order.take(part(5, of: 0, count: 6, completes: true), via: .flow)
        #expect(answer7.isEmpty)
        let answer8 = order.failed(0)
        #expect(!answer8, "it is forgotten when all of it has come")
        let answer9 = order.take(part(1, of: 100, count: 2, completes: true), via: .flow)
        #expect(answer9.count == 2)
    }

    @Test func oneThatFailsIsForgotten() {
        var order = PartOrder()
        _ = order.take(part(1, of: 0), via: .flow)
        let answer10 = order.failed(0)
        #expect(!answer10, "nobody was told of it")
        #expect(order.heldOctets == 0)
        _ = order.take(part(0, of: 0), via: .flow)
        let answer11 = order.failed(0)
        #expect(answer11)
        let answer12 = order.failed(0)
        #expect(!answer12)
    }
}
