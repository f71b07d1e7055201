import Feed
import Operation
import Transport
import Wire

/// What the live page of a source shows, gathered once a second. A second takes as much work, and a summary as many octets, with
/// twenty thousand receivers as with a thousand: so many are looked at each second, in turn, and of single ones only the slowest are
/// named.
final class Audience {
    /// Receivers that are looked at in one second.
    static let looksPerSecond = 1024
    /// Receivers that are named.
    static let slowestCount = 8
    /// Points of the curves. When there are more, every other one goes, and from then on they are twice as far apart.
    static let pointLimit = 240
    /// What is left after a second of the weight that a loss on the flow has in its present rate.
    private static let fading = 0.9

    typealias Look = (_ from: Int, _ limit: Int) -> (accounts: [ReceiverAccount], next: Int?)

    /// What was found when every receiver was looked at once.
    private struct Round {
        var roundTrips = Histogram()
        var losses = Histogram()
        var slowest: [ReceiverAccount] = []
    }

    /// Every smoothed round-trip time that was looked at.
    private(set) var roundTrips = Histogram()

    private let look: Look
    private let start: Instant
    private var next = 0
    private var gathering = Round()
    private var complete = Round()
    /// Octets that the members of the flow would have cost on connections of their own.
    private var spared = 0
    private var flowLoss = (packets: 0.0, lost: 0.0, before: (packets: UInt64(0), lost: UInt64(0)))
    private var head = "{\"uptime_s\":0"
    private var step = 1
    private var points: [(number: Int, text: String)] = []

    /// - Parameter look: gives so many receivers, from one on, and which is next.
    init(at now: Instant, look: @escaping Look) {
        start = now
        self.look = look
    }

    /// An item of so many octets was published while the flow had so many members.
    func published(_ octets: Int, members: Int) { spared += octets * members }

    // MARK: Once a second

    struct Feed {
        var name: String
        var counters: FeedCounters
    }

    /// - Parameters:
    ///   - left: connections that have ended.
    ///   - flowPackets: of the flow, sent so far.
    ///   - wall: nanoseconds since 1970.
    func tick(
        _ counts: SourceCounts, left: UInt64, flowPackets: UInt64, feeds: [Feed], at now: Instant, wall: Int64
    ) {
        lookOn()
        noteLoss(counts, flowPackets)
        let alone = counts.bytesUnicast + spared
        let seconds = Int((now - start) / .seconds(1))
        let onFlow = counts.members - counts.replicated
        let onUnicast = max(0, counts.receivers - counts.members)
        addPoint(
            seconds,
            [
                onFlow, counts.replicated, onUnicast, Int(clamping: left), counts.bytesFlow, counts.bytesReplicated,
                counts.bytesRepair, counts.bytesUnicast, alone, Self.microseconds(complete.roundTrips, 50),
                Self.microseconds(complete.roundTrips, 99), Self.parts(lossOnFlow),
            ])
        let head = jsonObject(
            [
                "time_ms": Int(wall / 1_000_000), "uptime_s": seconds, "items": counts.items,
                "receivers": JSONText(
                    jsonObject([
                        "flow": onFlow, "copies": counts.replicated, "unicast": onUnicast, "left": Int(clamping: left),
                        "waiting": counts.receiversWaiting, "refused": counts.connectionsRefused,
                    ])),
                "octets": JSONText(
                    jsonObject([
                        "flow": counts.bytesFlow, "copies": counts.bytesReplicated, "repair": counts.bytesRepair,
                        "unicast": counts.bytesUnicast, "control": counts.bytesControl, "unicast_alone": alone,
                    ])),
                "flow_rate_bits": counts.flowRate, "flow_loss_ppm": Self.parts(lossOnFlow),
                "round_trip_us": percentiles { Self.microseconds(complete.roundTrips, $0) },
                "connection_loss_ppm": percentiles { complete.losses.percentile($0).map { Self.parts($0) } ?? -1 },
                "slowest": JSONText.array(complete.slowest.map(Self.line)),
                "feeds": JSONText.array(feeds.map { Self.line($0, wall) }),
            ] as KeyValuePairs<String, any JSONValue>)
        self.head = String(head.dropLast())
    }

    private func lookOn() {
        let (accounts, next) = look(next, Self.looksPerSecond)
        for account in accounts {
            if let roundTrip = account.roundTrip {
                roundTrips.add(roundTrip)
                gathering.roundTrips.add(roundTrip)
            }
            if account.datagramsSent > 0 {
                gathering.losses.add(min(1, Double(account.packetsLost) / Double(account.datagramsSent)))
            }
            let place = gathering.slowest.firstIndex { Self.isSlower(account, $0) } ?? gathering.slowest.count
            guard place < Self.slowestCount else { continue }
            gathering.slowest.insert(account, at: place)
            if gathering.slowest.count > Self.slowestCount { gathering.slowest.removeLast() }
        }
        self.next = next ?? 0
        guard next == nil else { return }
        complete = gathering
        gathering = Round()
    }

    /// Bits per second, of which more make nobody faster.
    private static let ample: UInt64 = 10_000_000_000

    /// Who lacks more is slower, then who takes less of the flow, then who is farther away.
    private static func isSlower(_ a: ReceiverAccount, _ b: ReceiverAccount) -> Bool {
        if a.standing.partsBehind != b.standing.partsBehind { return a.standing.partsBehind > b.standing.partsBehind }
        let (first, second) = (min(a.standing.takes ?? .max, ample), min(b.standing.takes ?? .max, ample))
        if first != second { return first < second }
        return (a.roundTrip ?? .zero) > (b.roundTrip ?? .zero)
    }

    /// Of the last ten seconds or so: lost packets of all members, of as many as they were to hear.
    private var lossOnFlow: Double { flowLoss.packets > 0 ? min(1, flowLoss.lost / flowLoss.packets) : 0 }

    private func noteLoss(_ counts: SourceCounts, _ packets: UInt64) {
        let lost = counts.flowPacketsLost ?? 0
        let heard = Double(packets &- flowLoss.before.packets) * Double(counts.members)
        flowLoss.packets = flowLoss.packets * Self.fading + heard
        flowLoss.lost = flowLoss.lost * Self.fading + Double(lost &- flowLoss.before.lost)
        flowLoss.before = (packets, lost)
    }

    private func addPoint(_ seconds: Int, _ values: [Int]) {
        let number = seconds / step
        guard number > points.last?.number ?? -1 else { return }
        points.append((number, "[\(seconds),\(values.map { "\($0)" }.joined(separator: ","))]"))
        guard points.count > Self.pointLimit else { return }
        step *= 2
        // Of two that become one, the later stays.
        var kept: [(number: Int, text: String)] = []
        for point in points {
            if kept.last?.number == point.number / 2 { kept.removeLast() }
            kept.append((point.number / 2, point.text))
        }
        points = kept
    }

    // MARK: The summary

    /// - Parameter first: the number of the first point that is wanted; a point's number is its time in seconds divided by `step_s`.
    func summary(from first: Int) -> String {
        let wanted = points.drop { $0.number < first }.map(\.text)
        return "\(head),\"step_s\":\(step),\"from\":\(first),\"points\":[\(wanted.joined(separator: ","))]}"
    }

    private static func microseconds(_ histogram: Histogram, _ percent: Double) -> Int {
        histogram.percentile(percent).map { Int($0 * 1e6) } ?? -1
    }

    /// Parts per million.
    private static func parts(_ share: Double) -> Int { Int(share * 1e6) }

    private func percentiles(_ value: (Double) -> Int) -> JSONText {
        JSONText(jsonObject(["p50": value(50), "p90": value(90), "p99": value(99)]))
    }

    private static func line(_ account: ReceiverAccount) -> String {
        let loss = account.datagramsSent > 0 ? Double(account.packetsLost) / Double(account.datagramsSent) : 0
        return jsonObject([
            "address": "\(account.address)", "way": account.standing.way.rawValue,
            "parts_behind": account.standing.partsBehind, "takes_bits": account.standing.takes,
            "rtt_us": account.roundTrip.map { Int($0 / .microseconds(1)) }, "loss_ppm": parts(min(1, loss)),
            "since_s": Int(account.since / .seconds(1)), "reason": account.reason,
        ])
    }

    private static func line(_ feed: Feed, _ wall: Int64) -> String {
        func ago(_ time: Int64?) -> Int? { time.map { Int(max(0, wall - $0) / 1_000_000) } }
        let counters = feed.counters
        return jsonObject([
            "feed": feed.name, "polls": counters.polls, "failed": counters.failures.values.reduce(0, +),
            "failing": counters.failing?.rawValue, "polled_ms_ago": ago(counters.lastPoll),
            "read_ms_ago": ago(counters.lastSuccess), "new_items": counters.newItems,
            "edited_items": counters.editedItems,
        ])
    }
}
