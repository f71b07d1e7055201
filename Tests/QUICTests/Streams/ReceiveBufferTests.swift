import Testing
import Wire

@testable import QUIC

@Suite struct ReceiveBufferTests {
    /// Random fragments, overlapping and repeated, with different octets each time, against a dictionary in which the
    /// first value of each offset stays.
    @Test(arguments: 0..<60) func agreesWithAModel(seed: Int) {
        var random = SeededRandom(seed: UInt64(seed))
        let size = [40, 300, 3000].randomElement(using: &random)!
        var buffer = ReceiveBuffer()
        var model: [Int: UInt8] = [:]
        var output: [UInt8] = []
        var stamp: UInt8 = 0
        while output.count < size {
            let start = Int.random(in: 0..<size, using: &random)
            let longest = Bool.random(using: &random) ? 3 : 200
            let end = min(size, start + Int.random(in: 0...longest, using: &random))
            stamp &+= 1
            let bytes = (start..<end).map { UInt8(truncatingIfNeeded: $0) ^ stamp }
            var new = 0
            for offset in start..<end where offset >= output.count && model[offset] == nil {
                model[offset] = bytes[offset - start]
                new += 1
            }
            #expect(buffer.missing(bytes.count, at: UInt64(start)) == new)
            #expect(buffer.take(bytes, at: UInt64(start)) == new)
            #expect(buffer.missing(bytes.count, at: UInt64(start)) == 0)
            #expect(buffer.buffered == model.count)
            if Int.random(in: 0..<4, using: &random) == 0, let read = buffer.read() {
                for octet in read {
                    #expect(model.removeValue(forKey: output.count) == octet)
                    output.append(octet)
                }
                #expect(buffer.readOffset == UInt64(output.count))
                #expect(model[output.count] == nil, "stopped before a hole")
            }
        }
        #expect(buffer.buffered == 0 && buffer.segmentCount == 0 && buffer.refused == 0)
        #expect(buffer.highest == UInt64(size))
    }

    @Test func inOrderOctetsAreReadableAtOnceAndOnce() {
        var buffer = ReceiveBuffer()
        #expect(buffer.read() == nil)
        #expect(buffer.take([1, 2, 3], at: 0) == 3)
        #expect(buffer.take([3, 4], at: 2) == 1)
        #expect(buffer.read() == [1, 2, 3, 4])
        #expect(buffer.read() == nil)
        #expect(buffer.take([1, 2, 3], at: 0) == 0)
        #expect(!buffer.hasReadable)
    }

    @Test func firstCopyWins() {
        var buffer = ReceiveBuffer()
        _ = buffer.take([5, 5], at: 2)
        _ = buffer.take([1, 1, 1, 1, 1, 1], at: 0)
        #expect(buffer.read() == [1, 1, 5, 5, 1, 1])
    }

    @Test func emptyFramesDoNothing() {
        var buffer = ReceiveBuffer()
        #expect(buffer.take([], at: 0) == 0)
        #expect(buffer.take([], at: 100) == 0)
        #expect(buffer.segmentCount == 0 && buffer.highest == 0)
    }

    /// Octets that come in order beyond a hole cost one segment, however many frames they take.
    @Test func segmentsGrow() {
        var buffer = ReceiveBuffer()
        for offset in 1...500 { _ = buffer.take([UInt8(truncatingIfNeeded: offset)], at: UInt64(offset)) }
        #expect(buffer.segmentCount == 1)
        #expect(buffer.take([0], at: 0) == 1)
        #expect(buffer.read()?.count == 501)
        #expect(buffer.segmentCount == 0)
    }

    @Test func holesAreBounded() {
        var buffer = ReceiveBuffer()
        for index in 0..<UInt64(StreamBounds.segmentsPerStream + 10) {
            let added = buffer.take([7], at: 2 * index + 1)
            #expect(added == (index < UInt64(StreamBounds.segmentsPerStream) ? 1 : 0))
        }
        #expect(buffer.segmentCount == StreamBounds.segmentsPerStream)
        #expect(buffer.refused == 10)
        #expect(buffer.highest == 2 * UInt64(StreamBounds.segmentsPerStream))
        // A frame that closes holes is taken even now.
        #expect(buffer.take([0, 0, 0], at: 0) == 2)
        #expect(buffer.read() == [0, 7, 0, 7])
        #expect(buffer.take([7], at: 2 * UInt64(StreamBounds.segmentsPerStream) + 5) == 1)
    }
}

@Suite struct OctetSetTests {
    @Test(arguments: 0..<40) func agreesWithAModel(seed: Int) {
        var random = SeededRandom(seed: UInt64(seed))
        var set = OctetSet()
        var model = Set<UInt64>()
        for _ in 0..<300 {
            let start = UInt64.random(in: 0..<120, using: &random)
            let range = start..<(start + UInt64.random(in: 0..<20, using: &random))
            if Bool.random(using: &random) {
                set.insert(range)
                model.formUnion(range)
            } else {
                set.remove(range)
                model.subtract(range)
            }
            #expect(set.isEmpty == model.isEmpty)
            #expect(set.octetCount == UInt64(model.count))
            #expect(set.end == model.max().map { $0 + 1 } ?? 0)
            #expect(set.first?.lowerBound == model.min())
            #expect((0..<150).allSatisfy { set.contains($0) == model.contains($0) })
            var last: UInt64?
            for index in 0..<set.rangeCount {
                let here = set[index]
                #expect(!here.isEmpty && here.lowerBound > last ?? 0 || last == nil, "ascending and not touching")
                last = here.upperBound
            }
            let window = UInt64(30)..<90
            #expect(set.intersection(window).octetCount == UInt64(model.filter { window.contains($0) }.count))
            #expect(set.prefix == (0..<200).first { !model.contains($0) }!)
        }
        var copy = OctetSet()
        copy.formUnion(set)
        #expect(copy == set)
        copy.subtract(set)
        #expect(copy.isEmpty)
    }
}
