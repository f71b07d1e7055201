import Flexicast
import Foundation
import Operation
import TestSupport
import Testing
import Transport
import Wire

@testable import Feeds

/// What the live page polls, with receivers that are made up.
@Suite struct AudienceTests {
    private final class Seats {
        var accounts: [ReceiverAccount]
        /// How many were looked at.
        var looked = 0

        init(_ count: Int, seed: UInt64 = 1) {
            var random = SeededRandom(seed: seed)
            accounts = (0..<count).map { _ in
                let way: ReceiverStanding.Way = [.flow, .copies, .unicast][Int(random.next() % 3)]
                return ReceiverAccount(
                    address: SocketAddress(.v6(UInt128(random.next()) << 64 | UInt128(random.next())), port: 65_535),
                    standing: ReceiverStanding(
                        way: way, partsBehind: random.next() % 4 == 0 ? random.next() % 1_000_000 : 0,
                        takes: way == .unicast ? nil : random.next() % 20_000_000_000),
                    since: .seconds(Int64(random.next() % 100_000)), reason: "slow",
                    roundTrip: .microseconds(Int64(50 + random.next() % 2_000_000)), octetsSent: random.next() >> 20,
                    packetsLost: random.next() % 500, datagramsSent: 1000)
            }
        }

        func look(_ first: Int, _ limit: Int) -> (accounts: [ReceiverAccount], next: Int?) {
            let found = accounts.dropFirst(first).prefix(limit)
            looked += found.count
            return (Array(found), first + found.count < accounts.count ? first + found.count : nil)
        }
    }

    // swift-format-ignore: AlwaysUseLowerCamelCase
    private struct Summary: Decodable {
        struct Receivers: Decodable {
            var flow: Int
            var copies: Int
            var unicast: Int
            var left: Int
        }
        struct Octets: Decodable {
            var flow: Int
            var unicast: Int
            var unicast_alone: Int
        }
        struct Percentiles: Decodable {
            var p50: Int
            var p99: Int
        }
        struct One: Decodable {
            var address: String
            var parts_behind: Int
        }
        struct Feed: Decodable {
            var feed: String
            var failing: String?
            var read_ms_ago: Int?
        }
        var uptime_s: Int
        var receivers: Receivers?
        var octets: Octets?
        var round_trip_us: Percentiles?
        var flow_loss_ppm: Int?
        var slowest: [One]?
        var feeds: [Feed]?
        var step_s: Int
        var points: [[Int]]
    }

    private static func read(_ text: String) throws -> Summary {
        try JSONDecoder().decode(Summary.self, from: Data(text.utf8))
    }

    private static let start = Instant(nanoseconds: 5_000_000_000)

    private func tick(
        _ audience: Audience, second: Int, _ counts: SourceCounts, packets: UInt64 = 0, feed: FeedCounters = .init()
    ) {
        audience.tick(
            counts, left: UInt64(second), flowPackets: packets,
            feeds: [Audience.Feed(name: "https://example.org/" + String(repeating: "a", count: 100), counters: feed)],
            at: Self.start + .seconds(second), wall: 1_700_000_000_000_000_000 + Int64(second) * 1_000_000_000)
    }

    /// The budget: with a thousand receivers a poll each second is far below 200 kB/s, and neither octets nor receivers looked at
    /// grow with their number, or with time.
    @Test(arguments: [0, 1000, 20_000])
    func aPollIsBounded(receivers: Int) throws {
        let seats = Seats(receivers)
        let audience = Audience(at: Self.start) { seats.look($0, $1) }
        var counts = SourceCounts()
        counts.receivers = receivers
        counts.members = receivers / 2
        counts.bytesFlow = 1 << 50
        counts.bytesUnicast = 1 << 50
        var largest = 0
        var (known, step) = (-1, 1)
        for second in 0..<600 {
            let earlier = seats.looked
            tick(audience, second: second, counts)
            #expect(seats.looked - earlier <= Audience.looksPerSecond)
            let before = seats.looked
            let answer = audience.summary(from: known < 0 ? 0 : known / step + 1)
            #expect(seats.looked == before, "a poll looks at nobody")
            largest = max(largest, answer.utf8.count)
            // As the page does.
            var summary = try Self.read(answer)
            if summary.step_s != step { summary = try Self.read(audience.summary(from: 0)) }
            (known, step) = (summary.points.last?[0] ?? known, summary.step_s)
        }
        #expect(seats.looked >= min(receivers, Audience.looksPerSecond) * 300)
        #expect(largest < 5_000, "\(largest) octets")
        let whole = audience.summary(from: 0)
        #expect(whole.utf8.count < 40_000, "\(whole.utf8.count) octets")
        #expect(try Self.read(whole).points.count <= Audience.pointLimit)
        #expect(try Self.read(audience.summary(from: .max)).points.isEmpty)
        #expect(try Self.read(audience.summary(from: .min)).points.count > Audience.pointLimit / 2 - 1)
    }

    /// Who is named is slower than everybody else, and percentiles are those of all.
    @Test(arguments: 0..<10)
    func theSlowestAreNamed(seed: Int) throws {
        let seats = Seats(2500, seed: UInt64(seed))
        let audience = Audience(at: Self.start) { seats.look($0, $1) }
        for second in 0..<3 { tick(audience, second: second, SourceCounts()) }
        let summary = try Self.read(audience.summary(from: 0))
        let behind = seats.accounts.map { Int($0.standing.partsBehind) }.sorted(by: >)
        #expect(summary.slowest?.map(\.parts_behind) == Array(behind.prefix(Audience.slowestCount)))
        let trips = seats.accounts.compactMap(\.roundTrip).map { Int($0 / .microseconds(1)) }.sorted()
        let median = try #require(summary.round_trip_us?.p50)
        // A bucket is as wide as its lower bound at the most.
        #expect(median >= trips[1249] / 2 && median <= trips[1249] * 2)
        #expect(audience.roundTrips.count == 2500)
    }

    /// Among those who lack nothing, who takes less of the flow is slower, then who is farther away.
    @Test func equalsAreTold() throws {
        let seats = Seats(3)
        for index in 0..<3 { seats.accounts[index].standing.partsBehind = 0 }
        seats.accounts[0].standing.takes = 20_000_000_000
        seats.accounts[0].roundTrip = .milliseconds(2)
        seats.accounts[1].standing.takes = nil
        seats.accounts[1].roundTrip = .milliseconds(3)
        seats.accounts[2].standing.takes = 1_000_000
        seats.accounts[2].roundTrip = .milliseconds(1)
        let audience = Audience(at: Self.start) { seats.look($0, $1) }
        tick(audience, second: 0, SourceCounts())
        let named = try Self.read(audience.summary(from: 0)).slowest?.map(\.address)
        #expect(named == [2, 1, 0].map { "\(seats.accounts[$0].address)" })
    }

    /// Curves become coarser, not shorter, and keep their ends.
    @Test func curvesReachBackToTheStart() throws {
        let audience = Audience(at: Self.start) { _, _ in ([], nil) }
        for second in 0..<10_000 {
            var counts = SourceCounts()
            counts.receivers = second
            counts.bytesUnicast = second * 1000
            tick(audience, second: second, counts)
        }
        let summary = try Self.read(audience.summary(from: 0))
        #expect(summary.step_s == 64 && summary.points.count > Audience.pointLimit / 2)
        for (earlier, later) in zip(summary.points, summary.points.dropFirst()) {
            #expect((1...2 * summary.step_s).contains(later[0] - earlier[0]))
        }
        for point in summary.points { #expect(point[3] == point[0] && point[8] == point[0] * 1000) }
        #expect((summary.points.first?[0] ?? .max) < 2 * 64 && (summary.points.last?[0] ?? 0) > 10_000 - 2 * 64)
    }

    /// What unicast to all would have taken: what connections were sent, and each item once more for each member.
    @Test func unicastAloneIsComputed() throws {
        let audience = Audience(at: Self.start) { _, _ in ([], nil) }
        audience.published(1000, members: 0)
        audience.published(2000, members: 5)
        audience.published(500, members: 7)
        var counts = SourceCounts()
        counts.receivers = 9
        counts.members = 7
        counts.replicated = 2
        counts.bytesUnicast = 4000
        tick(audience, second: 1, counts)
        let summary = try Self.read(audience.summary(from: 0))
        #expect(summary.octets?.unicast_alone == 4000 + 10_000 + 3500)
        #expect(summary.receivers?.flow == 5 && summary.receivers?.copies == 2 && summary.receivers?.unicast == 2)
        #expect(summary.receivers?.left == 1)
    }

    @Test func lossOnTheFlowIsOfAllMembers() throws {
        let audience = Audience(at: Self.start) { _, _ in ([], nil) }
        var counts = SourceCounts()
        counts.members = 10
        counts.flowPacketsLost = 0
        var found = 0
        for second in 0..<100 {
            // Each second 1000 packets, of which each of ten members loses 20.
            counts.flowPacketsLost = UInt64(second * 200)
            tick(audience, second: second, counts, packets: UInt64(second * 1000))
            found = try #require(try Self.read(audience.summary(from: 0)).flow_loss_ppm)
        }
        #expect(abs(found - 20_000) < 10)
        for second in 100..<160 { tick(audience, second: second, counts, packets: UInt64(second * 1000)) }
        #expect((try Self.read(audience.summary(from: 0)).flow_loss_ppm ?? -1) < 100)
    }

    @Test func aFeedThatFailsIsSeen() throws {
        let audience = Audience(at: Self.start) { _, _ in ([], nil) }
        #expect(try Self.read(audience.summary(from: 0)).points.isEmpty)
        var feed = FeedCounters()
        feed.failing = FeedFailure.Kind.allCases.first
        feed.lastSuccess = 1_700_000_000_000_000_000 - 3_000_000_000
        tick(audience, second: 0, SourceCounts(), feed: feed)
        let told = try #require(try Self.read(audience.summary(from: 0)).feeds?.first)
        #expect(told.failing == FeedFailure.Kind.allCases.first?.rawValue && told.read_ms_ago == 3000)
    }
}
