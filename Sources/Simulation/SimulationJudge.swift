import Objects
import QUIC
import Wire

/// Watches that each honest receiver gets each object once, equal to the octet, and in time.
struct SimulationJudge {
    private struct Published {
        var sequence: UInt64
        var body: [UInt8]
        var at: Instant
    }

    /// What one receiver has, by place in `published`.
    private struct Record {
        /// All objects from here on are owed; nil until it is connected.
        var owedFrom: Int?
        var has: [UInt64] = []
        var first = Int.max
    }

    /// More complaints are counted and not kept.
    static let most = 20

    private var published: [Published] = []
    private var places: [UInt64: Int] = [:]
    private var records: [Record] = []
    private let lateness: Duration
    private(set) var complaints: [String] = []
    private(set) var complaintCount = 0
    /// Of all objects at honest receivers: in milliseconds from publication to the last octet, to the next power of the
    /// fourth root of two.
    private(set) var latencies: [Int] = Array(repeating: 0, count: 128)
    private(set) var longest = Duration.zero
    private(set) var objectsReceived: UInt64 = 0

    init(lateness: Duration) { self.lateness = lateness }

    var publishedCount: Int { published.count }

    mutating func complain(_ text: String) {
        complaintCount += 1
        if complaints.count < Self.most { complaints.append(text) }
    }

    mutating func published(_ sequence: UInt64, _ body: [UInt8], at now: Instant) {
        if places.updateValue(published.count, forKey: sequence) != nil {
            complain("number \(sequence) was given to two objects")
        }
        published.append(Published(sequence: sequence, body: body, at: now))
    }

    /// A receiver has come; what it is owed is not known before it is connected.
    mutating func add() { records.append(Record()) }

    /// All that is published from now on is owed to it.
    mutating func isServed(_ receiver: Int) {
        if records[receiver].owedFrom == nil { records[receiver].owedFrom = published.count }
    }

    mutating func received(_ object: ReceivedObject, by receiver: Int, at now: Instant) {
        guard let place = places[object.first] else {
            complain("receiver \(receiver) has object \(object.first), which was never published")
            return
        }
        let (word, bit) = (place / 64, UInt64(1) << UInt64(place % 64))
        while records[receiver].has.count <= word { records[receiver].has.append(0) }
        if records[receiver].has[word] & bit != 0 { complain("receiver \(receiver) has object \(object.first) twice") }
        records[receiver].has[word] |= bit
        records[receiver].first = min(records[receiver].first, place)
        objectsReceived += 1
        if !published[place].body.elementsEqual(object.body) {
            complain("object \(object.first) at receiver \(receiver) is not what was published")
        }
        guard place >= records[receiver].owedFrom ?? .max else { return }
        let late = now - published[place].at
        longest = max(longest, late)
        latencies[Self.bucket(late)] += 1
        if late > lateness { complain("object \(object.first) came to receiver \(receiver) \(late.seconds) s late") }
    }

    /// A receiver has gone or the run is over. `isEnd`: it should have everything.
    mutating func judge(_ receiver: Int, _ state: SimulatedReceiver, isEnd: Bool) {
        // Numbers that a source had reserved when it ended are never filled, and told so; nothing was lost by that.
        let lost = state.gaps.flatMap { gap in published.filter { gap.range.contains($0.sequence) } }
        if let first = lost.first {
            complain("receiver \(receiver) was told that object \(first.sequence) will not come")
        }
        if !state.failures.isEmpty { complain("receiver \(receiver) has \(state.failures.count) broken objects") }
        guard isEnd, let owed = records[receiver].owedFrom, owed < published.count else { return }
        let from = min(owed, records[receiver].first)
        let missing = (from..<published.count).filter { place in
            let word = place / 64
            return records[receiver].has.count <= word || records[receiver].has[word] & 1 << UInt64(place % 64) == 0
        }
        guard let first = missing.first else { return }
        complain("receiver \(receiver) lacks \(missing.count) objects, the first is \(published[first].sequence)")
    }

    private static func bucket(_ late: Duration) -> Int {
        let milliseconds = max(1, UInt64(max(0, late.nanoseconds / 1_000_000)))
        let log = 63 - milliseconds.leadingZeroBitCount
        let next = log >= 2 ? Int(milliseconds >> UInt64(log - 2)) & 3 : Int(milliseconds << UInt64(2 - log)) & 3
        return min(127, log * 4 + next)
    }

    /// The latency that this share of all objects does not exceed, in milliseconds.
    func percentile(_ share: Double) -> Double {
        let total = latencies.reduce(0, +)
        var count = 0
        for (bucket, number) in latencies.enumerated() {
            count += number
            if total > 0, Double(count) >= share * Double(total) {
                return Double(4 + bucket % 4 + 1) / 4 * Double(UInt64(1) << UInt64(bucket / 4))
            }
        }
        return 0
    }
}

extension Duration {
    var seconds: Double { Double(nanoseconds) / 1e9 }
}
