import Testing
import Wire

@Suite struct ChecksumTests {
    /// RFC 1071 section 1, to the letter: 16-bit words, an odd octet padded with zero.
    private func plain(_ octets: [UInt8]) -> UInt16 {
        var sum: UInt64 = 0
        for index in stride(from: 0, to: octets.count, by: 2) {
            sum += UInt64(octets[index]) << 8 + UInt64(index + 1 < octets.count ? octets[index + 1] : 0)
        }
        while sum >> 16 != 0 { sum = sum & 0xffff + sum >> 16 }
        return ~UInt16(sum)
    }

    @Test func anyLengthInAnyPieces() {
        var random = SeededRandom(seed: 1071)
        for length in Array(0...200) + [1200, 1471, 65_535] {
            // All ones make every addition carry.
            let octets = length % 3 == 0 ? [UInt8](repeating: 0xff, count: length) : random.octets(length)
            var pieces = InternetChecksum()
            var start = 0
            while start < length {
                let end = min(length, start + 1 + Int(random.next() % 70))
                pieces.add(octets.span.extracting(start..<end))
                start = end
            }
            #expect(pieces.value == plain(octets), "\(length) octets")
        }
    }
}
