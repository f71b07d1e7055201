import Testing
import Wire

@testable import QUIC

@Suite struct ReceiveBufferTests {
    /// Random fragments, overlapping and repeated, with different octets each time, against a dictionary in which the
    /// first value of each offset stays.
    @Test(arguments: 0..<60) func agreesWithAModel(seed: Int) {
        var random = SeededRandom(seed: UInt64(seed))
        let size = [40, 300, 3000].randomElement(using: &random)!
        var buffer = ReceiveBuffer(expected: Int.random(in: 0...(2 * size), using: &random))
        var model: [Int: UInt8] = [:]
        var output: [UInt8] = []
        var stamp: UInt8 = 0
        var consumed = 0
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
            if Int.random(in: 0..<4, using: &random) == 0 {
                let readable = buffer.readable
                buffer.consume()
                consumed += readable
                #expect(buffer.readable == 0)
                #expect(buffer.readOffset == UInt64(output.count + consumed))
            }
            #expect(buffer.buffered == model.count - consumed)
            if Int.random(in: 0..<4, using: &random) == 0, let read = buffer.read() {
                consumed = 0
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
        #expect(buffer.readable == 0)
    }

    @Test func firstCopyWins() {
        var buffer = ReceiveBuffer()
        _ = buffer.take([5, 5], at: 2)
        _ = buffer.take([1, 1, 1, 1, 1, 1], at: 0)
        #expect(buffer.read() == [1, 1, 5, 5, 1, 1])
    }

    /// Of packets in a run those are taken that hold the next octets and nothing else, while there is no hole, up to the limit
    /// and to the room that there is.
    @Test func onlyTheNextOctetsAreTakenAsSuch() {
        var buffer = ReceiveBuffer(expected: 4096)
        func next(_ offsets: [UInt8], type: UInt8 = 0x0c, id: UInt64 = 3, limit: UInt64 = 100) -> Int {
            // A header of 5 octets, three of a frame's, two of the stream's, and the tag.
            let packets = offsets.flatMap {
                [0, 0, 0, 0, 0, type, 3, $0, 10 + $0, 11 + $0] + [UInt8](repeating: 0, count: 16)
            }
            let run = RunPlan(
                start: 0, packetSize: 26, end: packets.count, headerLength: 1, firstPacketNumber: 0, keyGeneration: 0)
            let taken = buffer.insertNext(packets.span, run, from: 0, id: StreamID(id), limit: limit)
            #expect(taken.octets == 2 * taken.packets)
            return taken.packets
        }
        var taken = [next([0])]
        #expect(taken == [0], "there is no room yet")
        _ = buffer.take([10, 11], at: 0)
        taken = [next([2], type: 0x0e), next([2], type: 0x0d), next([2], id: 7), next([4]), next([2], limit: 3)]
        #expect(taken == [0, 0, 0, 0, 0])
        taken = [next([2, 4, 4, 6]), next([6, 8, 10], limit: 10), next([6])]
        #expect(taken == [2, 2, 0])
        #expect(buffer.highest == 10 && buffer.buffered == 10)
        _ = buffer.take([9], at: 14)
        taken = [next([10])]
        #expect(taken == [0], "there is a hole to look after")
        #expect(buffer.read() == Array(10..<20))
    }

    /// Room for all that is expected is made when a part of it is there, and no more than that part is worth.
    @Test func roomIsMadeOnce() {
        var buffer = ReceiveBuffer(expected: 64_000)
        var first = [UInt8](repeating: 1, count: 64_000 / StreamBounds.reserve - 1)
        _ = buffer.take(first, at: 0)
        buffer.consume()
        first = buffer.read() ?? []
        #expect(first.capacity < 64_000 / 8)
        buffer = ReceiveBuffer(expected: 64_000)
        for offset in stride(from: 0, to: 63_000, by: 1000) {
            _ = buffer.take([UInt8](repeating: 2, count: 1000), at: UInt64(offset))
        }
        let whole = buffer.read() ?? []
        #expect(whole.capacity >= 64_000 && whole.capacity < 80_000)
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
