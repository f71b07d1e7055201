import Objects
import Wire

/// Seeds that every run walks with, and two that no run did before: a test prints the seed it fails with, and one that
/// found a mistake is added here.
let seeds: [UInt64] = [1, 2, 3, 4, 5, 6, 7, 8] + [UInt64.random(in: .min ... .max), UInt64.random(in: .min ... .max)]

extension SeededRandom {
    /// A number below `bound`.
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }

    mutating func chance(_ share: Double) -> Bool { Double(next() >> 11) / Double(1 << 53) < share }

    /// Pieces of any size, some empty, that are `octets` when put together.
    mutating func pieces(of octets: [UInt8]) -> [[UInt8]] {
        var out: [[UInt8]] = []
        var place = 0
        let most = [1, 3, 40, 5000][below(4)]
        while place < octets.count {
            let end = min(octets.count, place + below(most + 1))
            out.append(Array(octets[place..<end]))
            place = end
        }
        return out
    }

    /// `octets` with a few of them changed, left out, doubled or cut off.
    mutating func mutated(_ octets: [UInt8]) -> [UInt8] {
        var out = octets
        for _ in 0...below(3) where !out.isEmpty {
            let place = below(out.count)
            switch below(5) {
            case 0: out[place] = UInt8(truncatingIfNeeded: next())
            case 1: out[place] ^= 1 << UInt8(below(8))
            case 2: out.remove(at: place)
            case 3: out.insert([0x00, 0x40, 0x80, 0xc0, 0xff][below(5)], at: place)
            default: out.removeLast(below(out.count))
            }
        }
        return out
    }
}

/// What a decoder made of some octets: its messages, then the error that ended it, if one did.
struct Outcome<Item: Equatable>: Equatable {
    var items: [Item] = []
    var error: ObjectsError?
    var most = 0
}

func decode(_ pieces: [[UInt8]], from sender: ControlMessage.Sender) -> Outcome<ControlMessage> {
    var decoder = ControlDecoder(from: sender)
    var out = Outcome<ControlMessage>()
    do {
        for piece in pieces {
            var reader = ByteReader(piece.span)
            while let message = try decoder.next(from: &reader) { out.items.append(message) }
            out.most = max(out.most, decoder.heldOctets)
        }
        try decoder.finish()
    } catch {
        out.error = error
    }
    return out
}

struct ReadPart: Equatable {
    var header: PartHeader
    var body: [UInt8]
}

func readPart(_ pieces: [[UInt8]]) -> Outcome<ReadPart> {
    var out = Outcome<ReadPart>()
    do {
        let part = try Part(stream: Array(pieces.joined()))
        out.items.append(ReadPart(header: part.header, body: Array(part.body)))
    } catch {
        out.error = error
    }
    return out
}

let noon = WallTime(nanoseconds: 1_800_000_000_000_000_000)
let start = Instant(nanoseconds: 5_000_000_000)
let epoch = Epoch(high: 0x0123_4567_89ab_cdef, low: 0xfedc_ba98_7654_3210)
