import Foundation
import Objects
import System
import Wire

/// A process that reserves, appends, flushes and trims without end, and says on standard output what it was promised, so
/// that a test can kill it at any moment and look.
///
///     opened EPOCH NEXT    reserved FIRST COUNT    flushed SEQUENCE …    trimming SEQUENCE
///
/// `flushed` names the parts that are safe since the last one.
@main struct Writer {
    static func main() throws {
        var system = SystemRandomNumberGenerator()
        var store = try SQLiteLogStore(directory: CommandLine.arguments[1], random: &system)
        let stored = try store.load()
        say("opened \(stored.epoch) \(stored.next)")
        var oldest = stored.oldest
        var appended: [UInt64] = []
        while true {
            let count = UInt64.random(in: 1...40)
            let first = try store.reserve(count)
            say("reserved \(first) \(count)")
            for sequence in first..<(first + count) where UInt8.random(in: 0..<8) > 0 {
                try store.append(samplePart(sequence))
                appended.append(sequence)
            }
            if Bool.random() {
                try store.flush()
                say("flushed \(appended.map { "\($0)" }.joined(separator: " "))")
                appended = []
            }
            if UInt8.random(in: 0..<4) == 0, first > 200 {
                oldest = max(oldest, first - UInt64.random(in: 50...200))
                say("trimming \(oldest)")
                try store.trim(below: oldest)
            }
        }
    }

    private static func say(_ line: String) { FileHandle.standardOutput.write(Data("\(line)\n".utf8)) }
}

/// The part that a number has in tests: mostly a few octets, sometimes many.
func samplePart(_ sequence: UInt64) -> Part {
    var random = SeededRandom(seed: sequence)
    let limit: UInt64 = sequence % 97 == 0 ? UInt64(ObjectLimits.partOctets) : sequence % 7 == 0 ? 20_000 : 300
    // One octet again and again, because this is called many times and built without optimisation.
    let body = [UInt8](repeating: UInt8(truncatingIfNeeded: random.next()), count: Int(random.next() % (limit + 1)))
    let header = PartHeader(
        sequence: sequence, length: UInt64(body.count), published: WallTime(nanoseconds: Int64(sequence)),
        name: "sample")
    do {
        return try Part(header, body: body)
    } catch {
        fatalError("the sample is no part: \(error)")
    }
}
