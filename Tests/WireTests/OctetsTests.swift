import Testing
import Wire

@Suite struct OctetsTests {
    private static let text = (0..<3000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }

    /// Any length, at an odd place: what was there before and behind stays.
    @Test func allOfASpanAndNothingElse() {
        for count in Array(0...800) + Array(1000...1300) + [2999] {
            var buffer = [UInt8](repeating: 0xee, count: 3100)
            do {
                var span = buffer.mutableSpan
                var writer = ByteWriter(&span)
                writer.advance(13)
                writer.octets(Self.text.span.extracting(0..<count))
                #expect(writer.offset == 13 + count)
            }
            #expect(buffer[..<13].allSatisfy { $0 == 0xee } && buffer[(13 + count)...].allSatisfy { $0 == 0xee })
            #expect(Array(buffer[13..<(13 + count)]) == Array(Self.text[..<count]), "\(count) octets")
        }
    }

    /// As a packet in the middle of a span, with what comes next written behind, and to the very end of both.
    @Test(arguments: [0, 1, 300, 1023, 1024, 1025, 1162, 1280, 1281, 1414, 1536, 1537, 2000])
    func aPartOfASpan(count: Int) {
        for first in [0, 5, 1000, 3000 - count] where first + count <= 3000 {
            for room in [13 + count + 1, 13 + count + 300, 4000] {
                var buffer = [UInt8](repeating: 0xee, count: room)
                do {
                    var span = buffer.mutableSpan
                    var writer = ByteWriter(&span)
                    writer.advance(13)
                    writer.octets(of: Self.text.span, from: first, count: count)
                    #expect(writer.offset == 13 + count)
                    writer.uint8(0xaa)
                }
                #expect(buffer[..<13].allSatisfy { $0 == 0xee } && buffer[13 + count] == 0xaa)
                #expect(Array(buffer[13..<(13 + count)]) == Array(Self.text[first..<(first + count)]))
            }
        }
    }
}
