import Testing
import Wire

@testable import Objects

@Suite struct PartTests {
    static let header = PartHeader(
        sequence: 70_000, index: 3, count: 5, length: 1_200_000, published: WallTime(nanoseconds: -5),
        mediaType: "text/plain; charset=utf-8", name: "päper/1")

    @Test("The octets of a prelude, as docs/objects.md shows them") func vector() throws {
        let header = PartHeader(
            sequence: 5, index: 1, count: 2, length: 300_000, published: WallTime(nanoseconds: 1),
            mediaType: "text/plain", name: "a")
        let part = try Part(header, body: [0xff])
        #expect(
            part.stream == [1, 28, 5, 1, 2, 0x80, 0x04, 0x93, 0xe1, 0, 0, 0, 0, 0, 0, 0, 1, 10]
                + Array("text/plain".utf8) + [1, 0x61, 0xff])
        #expect(part.preludeLength == 30 && Array(part.body) == [0xff] && part.body.count == 1)
    }

    @Test func everyFieldComesBack() throws {
        for header in [
            Self.header, PartHeader(sequence: 0, count: nil, length: nil, published: noon),
            PartHeader(sequence: (1 << 60) - 1, length: 0, published: WallTime(nanoseconds: .min)),
        ] {
            let part = try Part(header, body: [1, 2, 3])
            let again = try Part(stream: part.stream)
            #expect(again == part && again.header == header && Array(again.body) == [1, 2, 3])
            #expect(readPart([part.stream]).items == [ReadPart(header: header, body: [1, 2, 3])])
        }
    }

    @Test func theLargestPartIsTakenAndNoLarger() throws {
        let most = [UInt8](repeating: 7, count: ObjectLimits.partOctets)
        let header = PartHeader(sequence: 1, count: nil, length: nil, published: noon)
        let part = try Part(header, body: most)
        #expect(readPart([part.stream]).items.first?.body == most)
        let tooLong = ObjectsError.tooLong(.part, limit: UInt64(ObjectLimits.partOctets))
        #expect(throws: tooLong) { try Part(header, body: most + [0]) }
        #expect(throws: tooLong) { try Part(stream: part.stream + [0]) }
        #expect(readPart([part.stream, [0]]).error == tooLong)
    }

    @Test("A header that claims more than it may is an error before any of it has come") func claims() {
        for octets: [UInt8] in [[1, 0xff, 255, 255, 255, 255, 255, 255, 255], [1, 0x50, 0x01]] {
            #expect(throws: ObjectsError.tooLong(.header, limit: 4096)) { try Part(stream: octets) }
        }
        // An extension that claims 2^62 octets.
        var fields: [UInt8] = [0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]
        fields += [255, 255, 255, 255, 255, 255, 255, 255]
        #expect(readPart([[1, UInt8(fields.count)] + fields]).error == .truncated(.extension))
    }

    @Test func extensionsAreSteppedOver() {
        let plain: [UInt8] = [7, 0, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        let extended = plain + [0x40, 99, 3, 1, 2, 3, 9, 0]
        let outcome = readPart([[1, UInt8(extended.count)] + extended + [4, 2]])
        #expect(outcome.items == readPart([[1, UInt8(plain.count)] + plain + [4, 2]]).items)
        #expect(outcome.items.first?.body == [4, 2])
    }

    @Test func whatCannotBe() {
        func prelude(_ fields: [UInt8]) -> [[UInt8]] { [[1, UInt8(fields.count)] + fields] }
        let time: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0]
        func error(_ fields: [UInt8]) -> ObjectsError? { readPart(prelude(fields)).error }
        #expect(error([1, 2, 0, 0] + time + [0, 0])?.code == .malformed)  // index above the sequence number
        #expect(error([2, 2, 2, 0] + time + [0, 0])?.code == .malformed)  // index not below the count
        #expect(error([0xd0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] + time + [0, 0])?.code == .malformed)  // 2^60
        // The most that one part holds, and one octet more.
        #expect(error([0, 0, 1, 0x80, 3, 0xef, 0xf2] + time + [0, 0])?.code == .malformed)
        #expect(error([0, 0, 1, 0x80, 3, 0xef, 0xf1] + time + [0, 0]) == nil)
        #expect(error([0, 0, 0, 0] + time + [2, 0xc3, 0x28, 0]) == .notText(.mediaType))
        #expect(error([0, 0, 0, 0] + time + [0, 1, 0xff]) == .notText(.name))
        #expect(error([0, 0, 0, 0] + time + [0x41, 0x00]) == .tooLong(.mediaType, limit: 255))
        #expect(error([0, 0, 0, 0] + time + [0, 0x44, 0x01]) == .tooLong(.name, limit: 1024))
        #expect(error([0, 0, 0, 0] + time + [0, 3, 0x61]) == .truncated(.header))
        #expect(error([0, 0, 0, 0, 1]) == .truncated(.header))
        #expect(readPart([[2, 0]]).error == .version(.header, 2))
        #expect(readPart([[1]]).error == .truncated(.header))
    }

    @Test("Names are compared by octets") func names() {
        var other = Self.header
        other.name = "pa\u{308}per/1"
        #expect(other.name == Self.header.name && other != Self.header)
    }

    @Test("Random and mutated streams: no trap, and the same outcome however they are cut", arguments: seeds)
    func fuzz(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let valid = try Part(Self.header, body: random.octets(50)).stream
        for round in 0..<600 {
            let octets =
                switch round % 3 {
                case 0: random.octets(random.below(80))
                case 1: [1] + random.octets(random.below(80))
                default: random.mutated(valid)
                }
            let whole = readPart([octets])
            let cut = readPart(random.pieces(of: octets))
            #expect(whole == cut, "seed \(seed), round \(round): \(octets)")
            if let error = whole.error { #expect(!"\(error)".isEmpty && error.code.rawValue >= 0x10) }
            if let read = whole.items.first {
                let again = try Part(read.header, body: read.body)
                #expect(readPart([again.stream]) == whole, "seed \(seed), round \(round)")
            }
            do {
                let part = try Part(stream: octets)
                #expect(part.header == whole.items.first?.header, "seed \(seed), round \(round)")
            } catch {
                #expect(error == whole.error, "seed \(seed), round \(round)")
            }
        }
    }
}
