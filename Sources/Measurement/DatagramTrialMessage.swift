import Wire

/// A datagram of `flexicast perf send` and `receive`: a data packet, the sender's last word, or the receiver's answer
/// to it. Data packets are filled up with zeros to the size that was asked for.
enum DatagramTrialMessage: Equatable {
    case data(run: UInt64, number: UInt64)
    /// The run is over: what was sent.
    case end(run: UInt64, sent: DatagramTrialTotals)
    /// What came of it.
    case report(run: UInt64, received: DatagramTrialTotals)

    /// Octets of the shortest data packet.
    static let leastSize = 32
    private static let mark: UInt32 = 0x4658_5046
    private static let endSize = 96

    /// Writes the head of a data packet, whose other octets are left as they are.
    @_lifetime(writer: copy writer)
    static func writeData(run: UInt64, number: UInt64, into writer: inout ByteWriter) {
        writer.uint32(mark)
        writer.uint32(0)
        writer.uint64(run)
        writer.uint64(number)
    }

    /// Nil when it is none of these.
    init?(_ octets: Span<UInt8>) {
        var reader = ByteReader(octets)
        guard reader.uint32() == Self.mark, let kind = reader.uint32(), let run = reader.uint64() else { return nil }
        switch kind {
        case 0:
            guard let number = reader.uint64() else { return nil }
            self = .data(run: run, number: number)
        case 1, 2:
            guard let totals = DatagramTrialTotals(&reader) else { return nil }
            self = kind == 1 ? .end(run: run, sent: totals) : .report(run: run, received: totals)
        default: return nil
        }
    }

    /// `end` and `report` as datagrams.
    var encoded: [UInt8] {
        [UInt8].written(capacity: Self.endSize) { writer in
            switch self {
            case .data(let run, let number): Self.writeData(run: run, number: number, into: &writer)
            case .end(let run, let totals):
                Self.writeHead(1, run, into: &writer)
                totals.write(into: &writer)
            case .report(let run, let totals):
                Self.writeHead(2, run, into: &writer)
                totals.write(into: &writer)
            }
        }
    }

    @_lifetime(writer: copy writer)
    private static func writeHead(_ kind: UInt32, _ run: UInt64, into writer: inout ByteWriter) {
        writer.uint32(mark)
        writer.uint32(kind)
        writer.uint64(run)
    }
}

/// What one end tells the other about a run.
package struct DatagramTrialTotals: Sendable, Equatable {
    package var packets: UInt64 = 0
    package var octets: UInt64 = 0
    /// Nanoseconds of CPU.
    package var cpu: UInt64 = 0
    package var systemCalls: UInt64 = 0
    /// Messages that the packets left or came in.
    package var messages: UInt64 = 0
    /// Packets that were sent and never came, that came after a later one, and that came again.
    package var lost: UInt64 = 0
    package var reordered: UInt64 = 0
    package var duplicate: UInt64 = 0
    /// Those that the receiver's kernel dropped.
    package var kernelDrops: UInt64 = 0

    package init() {}

    private static var fields: [WritableKeyPath<Self, UInt64>] {
        [
            \.packets, \.octets, \.cpu, \.systemCalls, \.messages, \.lost, \.reordered, \.duplicate, \.kernelDrops,
        ]
    }

    @_lifetime(reader: copy reader)
    init?(_ reader: inout ByteReader) {
        for field in Self.fields {
            guard let value = reader.uint64() else { return nil }
            self[keyPath: field] = value
        }
    }

    @_lifetime(writer: copy writer)
    func write(into writer: inout ByteWriter) {
        for field in Self.fields { writer.uint64(self[keyPath: field]) }
    }
}

/// Tells from packet numbers what is missing, late and doubled. It remembers the last `window` numbers.
struct ArrivalJudge: Equatable {
    static let window: UInt64 = 1 << 16

    private(set) var received: UInt64 = 0
    private(set) var reordered: UInt64 = 0
    private(set) var duplicate: UInt64 = 0
    /// The number after the largest that came.
    private(set) var reach: UInt64 = 0
    private var seen = [UInt64](repeating: 0, count: Int(window / 64))

    mutating func arrived(_ number: UInt64) {
        if number >= reach {
            // Bits of numbers that nobody has spoken of are old ones.
            var next = reach
            if number - reach >= Self.window {
                for index in seen.indices { seen[index] = 0 }
            } else {
                while next <= number {
                    clear(next)
                    next += 1
                }
            }
            reach = number + 1
        } else {
            guard reach - number <= Self.window else {
                reordered += 1
                received += 1
                return
            }
            guard !isSet(number) else {
                duplicate += 1
                return
            }
            reordered += 1
        }
        set(number)
        received += 1
    }

    /// Those of `sent` packets that never came.
    func lost(of sent: UInt64) -> UInt64 { max(sent, reach) - min(received, max(sent, reach)) }

    private func place(_ number: UInt64) -> (Int, UInt64) { (Int(number % Self.window / 64), 1 << (number % 64)) }
    private func isSet(_ number: UInt64) -> Bool {
        let (index, bit) = place(number)
        return seen[index] & bit != 0
    }
    private mutating func set(_ number: UInt64) {
        let (index, bit) = place(number)
        seen[index] |= bit
    }
    private mutating func clear(_ number: UInt64) {
        let (index, bit) = place(number)
        seen[index] &= ~bit
    }
}
