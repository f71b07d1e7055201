import Foundation
import FoundationXML
import Testing

@testable import Campaign

/// A campaign of four receivers, written by hand: what it comes to is known.
@Suite("What a campaign came to")
struct MeasurementTests {
    static let start: Int64 = 1_790_000_000_000_000_000

    private func role(_ name: String, _ kind: CampaignFacts.Role.Kind, _ host: String, _ path: ReceiverPath? = nil)
        -> CampaignFacts.Role
    {
        CampaignFacts.Role(name: name, kind: kind, host: host, path: path)
    }

    /// A clock that is ahead by so many milliseconds, and known to half a millisecond.
    private func host(_ name: String, ahead: Int64) -> CampaignFacts.Host {
        let clock = ClockEstimate([
            ClockExchange(asked: Self.start, roundTrip: 1_000_000, answer: Self.start + 500_000 + ahead * 1_000_000)
        ])
        return CampaignFacts.Host(name: name, destination: name, installation: "copied", clock: clock)
    }

    private var facts: CampaignFacts {
        var killed = role("killed", .receiver, "far", .multicast)
        killed.isEndedOnPurpose = true
        return CampaignFacts(
            name: "a <b> & \"c\"", version: "flexicast 1\ncommit x", began: Self.start - 5_000_000_000,
            sendingBegan: Self.start,
            sendingEnded: Self.start + 10_000_000_000, ended: Self.start + 12_000_000_000, isInterrupted: false,
            group: "239.1.1.1:5000", hosts: [host("near", ahead: 0), host("far", ahead: 250)],
            roles: [
                role("source", .source, "near"), role("flow", .receiver, "far", .multicast),
                role("single", .receiver, "far", .unicast), role("late", .receiver, "far", .multicast), killed,
            ], faults: [CampaignFacts.Fault(title: "killed is killed", began: Self.start + 3_000_000_000)],
            notes: ["a note"],
            plan: "name: <x>\n")
    }

    /// A line as a role's host read it, so many milliseconds after the start by its own clock.
    private func line(_ milliseconds: Int64, _ members: String) throws -> CampaignEvent {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let text = "{\"read_ns\":\(Self.start + milliseconds * 1_000_000),\(members)}"
        return try decoder.decode(CampaignEvent.self, from: Data(text.utf8))
    }

    private func item(_ number: Int, at milliseconds: Int64, digest: String? = nil, via: String = "flow") throws
        -> CampaignEvent
    {
        try line(
            milliseconds,
            "\"event\":\"item\",\"id\":\"\(number)\",\"sha256\":\"\(digest ?? "d\(number)")\",\"bytes\":1000,\"via\":\"\(via)\""
        )
    }

    private func measurement() throws -> CampaignMeasurement {
        let ahead: Int64 = 250
        let source = try [
            item(1, at: 1000),
            line(1500, "\"event\":\"interval\",\"bytes_flow\":1200,\"bytes_repair\":0,\"bytes_unicast\":1100"),
            item(2, at: 2000), item(3, at: 4000),
            line(
                5000,
                "\"event\":\"summary\",\"bytes_flow\":3600,\"bytes_repair\":400,\"bytes_unicast\":3300,\"bytes_control\":50"
            ),
        ]
        let started = "\"event\":\"campaign-started\""
        let flow = try [
            line(-2000, started), line(-1000 + ahead, "\"event\":\"connected\""),
            line(-500 + ahead, "\"event\":\"listening\""),
            item(1, at: 1010 + ahead), item(2, at: 2020 + ahead, via: "mixed"),
            line(3000 + ahead, "\"event\":\"fallback\",\"reason\":\"silence\""),
            item(3, at: 4090 + ahead, via: "unicast"),
            line(6000 + ahead, "\"event\":\"return\""), item(3, at: 6100 + ahead),
            item(3, at: 6200 + ahead, digest: "other"),
            line(
                11_000 + ahead,
                "\"event\":\"summary\",\"packets_lost\":7,\"repaired\":1,\"bytes_flow\":2400,\"bytes_unicast\":1300"),
        ]
        let single = try [
            line(-2000, started), line(-1000 + ahead, "\"event\":\"connected\""),
            item(1, at: 1001 + ahead, via: "unicast"),
            item(2, at: 2001 + ahead, via: "unicast"), item(3, at: 4001 + ahead, via: "unicast"),
            line(11_000 + ahead, "\"event\":\"summary\",\"bytes_flow\":0,\"bytes_unicast\":3300"),
        ]
        // It came when the first item was out already.
        let late = try [
            line(1200, started), line(1500 + ahead, "\"event\":\"connected\""),
            line(1600 + ahead, "\"event\":\"listening\""),
            item(1, at: 1700 + ahead, via: "unicast"), item(2, at: 2030 + ahead), item(3, at: 4030 + ahead),
        ]
        let killed = try [
            line(-2000, started), line(-1000 + ahead, "\"event\":\"connected\""),
            line(-500 + ahead, "\"event\":\"listening\""),
            item(1, at: 1010 + ahead), line(3000 + ahead, "\"event\":\"campaign-ended\",\"status\":-9"),
        ]
        return CampaignMeasurement(
            facts, events: ["source": source, "flow": flow, "single": single, "late": late, "killed": killed])
    }

    @Test func itemsAndOctetsAreCounted() throws {
        let measured = try measurement()
        #expect(measured.source.items == 3 && measured.source.documentOctets == 3000)
        #expect(measured.source.flowOctets == 3600 && measured.source.controlOctets == 50)
        #expect(measured.samples.map(\.documentOctets) == [1000, 3000])
        #expect(measured.receivers.map(\.items) == [3, 3, 3, 1])
        #expect(measured.receivers.map(\.missing) == [0, 0, 0, 2])
        #expect(measured.receivers.map(\.duplicates) == [1, 0, 0, 0])
        #expect(measured.receivers.map(\.different) == [1, 0, 0, 0])
        #expect(measured.receivers.map(\.isComplete) == [false, true, true, false])
        #expect(measured.receivers.map(\.packetsLost) == [7, 0, nil, nil])
        // Two took the flow and have everything; one on unicast had 1.1 octets for each of the documents.
        #expect(measured.listeners == 2 && measured.isFactorMeasured && abs(measured.unicastFactor - 1.1) < 1e-9)
        #expect(measured.listenersOnUnicastOctets == 6600)
        #expect(abs((measured.saving ?? 0) - 6600.0 / 4000) < 1e-9)
        #expect(!measured.isComplete)
    }

    @Test func latencyIsWithoutTheClocksOffset() throws {
        let receivers = try measurement().receivers
        let flow = try #require(receivers[0].latency)
        #expect(flow.count == 3)
        #expect(abs(flow.median - 20) < 1e-6 && abs(flow.percent95 - 90) < 1e-6 && abs(flow.largest - 90) < 1e-6)
        // Half a millisecond at each end.
        #expect(abs(flow.uncertainty - 1) < 1e-6 && !flow.isVoid)
        #expect(receivers[1].latency?.isVoid == true)
        // What was published before it was there does not count.
        #expect(receivers[2].latency?.count == 2)
    }

    @Test func theWayIsFollowed() throws {
        let receivers = try measurement().receivers
        let way = receivers[0].spans
        #expect(way.map(\.way) == [.starting, .unicast, .multicast, .fallback, .multicast])
        #expect(way.map { ($0.begin * 1000).rounded() } == [-2000, -1000, -500, 3000, 6000])
        #expect(way.last?.end == 10)
        #expect(receivers[0].fallbacks == 1 && receivers[0].returns == 1)
        #expect(receivers[3].spans.map(\.way) == [.starting, .unicast, .multicast, .gone])
        #expect(receivers[3].isEndedOnPurpose)
    }

    @Test(arguments: [(0.5, 2.0), (0.95, 4), (0.25, 1), (0.26, 2), (1, 4), (0, 1)])
    func percentilesAreNearestRanks(_ share: Double, _ expected: Double) {
        #expect(percentile([1, 2, 3, 4], share) == expected)
    }

    /// Pictures are XML, and a page brings nothing in and lets nothing out of its texts.
    @Test func thePageIsWhole() throws {
        let measured = try measurement()
        for svg in [
            DeploymentFigure(facts: facts, measurement: measured).svg,
            PathFigure(facts: facts, measurement: measured).svg,
            measured.octetsFigure(end: 10).svg,
        ] { #expect(throws: Never.self) { try XMLDocument(data: Data(svg.utf8)) } }
        let result = CampaignResult(facts: facts, measurement: measured)
        let page = CampaignPage(result: result).html
        #expect(
            !page.contains("<b> & ") && page.contains("a &lt;b&gt; &amp; &quot;c&quot;")
                && page.contains("name: &lt;x&gt;"))
        for outside in ["src=", "href=", "@import", "url(", "<script"] { #expect(!page.contains(outside)) }
        #expect(page.contains("computed"))
        let comparison = CampaignComparison(result, result).lines
        #expect(comparison.allSatisfy { $0.count <= 80 } && comparison.contains { $0.hasSuffix("the same") })
        #expect(CampaignSummary(result).lines.contains("killed was ended on purpose, with 1 items"))
    }

    /// A campaign in which nothing came about has a report too.
    @Test func nothingIsReportedAsWell() throws {
        var facts = facts
        facts.sendingBegan = nil
        facts.roles = []
        let measured = CampaignMeasurement(facts, events: [:])
        #expect(!measured.isComplete && measured.saving == nil)
        for svg in [
            DeploymentFigure(facts: facts, measurement: measured).svg,
            PathFigure(facts: facts, measurement: measured).svg,
            measured.octetsFigure(end: 0).svg,
        ] { #expect(throws: Never.self) { try XMLDocument(data: Data(svg.utf8)) } }
    }

    @Test func tablesQuoteWhatNeedsIt() throws {
        var facts = facts
        facts.hosts[0].failure = "a, \"b\"\nc"
        let files = CampaignTables(facts: facts, measurement: try measurement(), arrivals: []).files
        #expect(files.first { $0.name == "hosts.csv" }?.text.contains("\"a, \"\"b\"\"\nc\"\r\n") == true)
        #expect(files.first { $0.name == "receivers.csv" }?.text.split(separator: "\r\n").count == 5)
    }

    /// A disk that is full stops nothing, and is told.
    @Test func aFullDiskIsTold() {
        let file = LineFile("/dev/full")
        file.write("{}")
        file.write("{}")
        #expect(file.failure?.contains("No space left") == true)
        #expect(LineFile("/nowhere/file").failure?.contains("/nowhere/file") == true)
    }
}
