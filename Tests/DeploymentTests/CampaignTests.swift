import Foundation
import TestSupport
import Testing

@testable import Campaign

/// Campaigns over real ssh to hosts in network namespaces.
@Suite(
    "Campaign over ssh", .serialized,
    .enabled(if: Ground.isSolid && CampaignHosts.obstacle == nil, "\(Ground.obstacle ?? CampaignHosts.obstacle ?? "")"))
struct CampaignOverSSHTests {
    /// The paper's deployment: a router, a relay, five receivers through it, four on unicast. One host more cannot be reached, and
    /// one loses its network halfway. Both are named, and the nine have every item.
    @Test func nineReceiversHaveEverythingThoughTwoHostsFail() throws {
        let stage = try AMTStage(receivers: 10, isRouted: true)
        let hosts = try CampaignHosts(stage.directory)
        try hosts.add("src", stage.sourcePlace)
        try hosts.add("edge", stage.relayPlace)
        let names = (1...5).map { "amt\($0)" } + (1...4).map { "uni\($0)" } + ["mortal"]
        for (name, place) in zip(names, stage.receiverPlaces) { try hosts.add(name, place) }
        try hosts.awaitAll()
        let plan =
            hosts.plan(program: Ground.program, more: "  absent: {ssh: root@10.99.0.200}").replacing(
                // This one has no program of its own, and is given one.
                "uni4: {ssh: root@10.99.0.11}", with: "uni4: {ssh: root@10.99.0.11, program: /nowhere/flexicast}")
                + """
                name: paper
                source: {host: src, listen: 10.74.0.2:4433, group: 232.74.0.1:5000, interface: eth0, options: [--ttl, 4]}
                relay: {host: edge, listen: 10.74.200.2:2268, upstream: src0}
                receivers:
                  - {hosts: [amt1, amt2, amt3, amt4, amt5, mortal, absent], path: amt}
                  - {hosts: [uni1, uni2, uni3], path: unicast}
                  - {host: uni4, path: unicast, options: [--report]}
                send: {items: 30, interval: 200ms}
                duration: 40s
                faults:
                  - {at: 1s, cut: amt2, for: 3s}

                """
        let campaign = try hosts.start(plan, output: "paper")
        try waitUntil(seconds: 60, "some items\n\(campaign.told.strange)\(campaign.logTail)") {
            hosts.items("paper", "mortal") >= 8 || !campaign.isRunning
        }
        try hosts.unplug("mortal", from: ["eth0"])
        try waitUntil(seconds: 60, "the campaign to end\n\(campaign.told.strange)\(campaign.logTail)") {
            !campaign.isRunning
        }
        #expect(campaign.process.terminationStatus == 2, "\(campaign.told.strange)\(campaign.log)")

        let folder = stage.directory.appending(path: "paper").path
        let result = try CampaignResult(folder: folder)
        let failed = result.facts.hosts.filter { $0.failure != nil }.map(\.name)
        #expect(failed == ["mortal", "absent"], "\(campaign.told.strange)")
        #expect(result.measurement.source.items == 30)
        let whole = result.measurement.receivers.filter(\.isComplete)
        #expect(whole.map(\.name).sorted() == names.filter { $0 != "mortal" }.sorted(), "\(campaign.told.strange)")
        for receiver in whole {
            #expect(receiver.items == 30 && receiver.latency?.count == 30, "\(receiver)")
            #expect((receiver.viaFlow > 0) == (receiver.path == .amt), "\(receiver)")
        }
        let cut = try #require(result.measurement.receivers.first { $0.name == "amt2" })
        #expect(cut.fallbacks == 1 && cut.returns == 1, "\(cut)")
        #expect(cut.spans.contains { $0.way == .fallback })
        // All have one clock: the truth is nought, and must be within what is said of it.
        for host in result.facts.hosts where host.name != "absent" {
            let clock = try #require(host.clock, "\(host.name)")
            #expect(clock.exchanges >= 20)
            #expect(abs(clock.offsetNanoseconds) <= clock.uncertaintyNanoseconds, "\(host.name): \(clock)")
        }
        #expect(result.facts.hosts.first { $0.name == "uni4" }?.installation == "copied")
        #expect((result.measurement.saving ?? 0) > 1)

        // One has told of itself: it lasted more than ten seconds until the lost host was given up.
        let told = try #require(result.measurement.unverified.first)
        #expect(
            result.measurement.unverified.count == 1 && told.address.hasPrefix("10.74.9.2:") && told.way == "unicast")
        #expect((1...30).contains(told.items) && (told.median ?? 0) > 0)

        let page = try String(contentsOfFile: "\(folder)/report.html", encoding: .utf8)
        #expect(page.contains("What others report: unverified"))
        for name in ["mortal", "absent"] { #expect(page.contains("Host \(name) failed: ")) }
        #expect(!page.contains("src=") && !page.contains("href="))
        // What the folder has is enough to make the report again.
        try FileManager.default.removeItem(atPath: "\(folder)/report.html")
        #expect(try shell([Ground.program, "campaign", "report", folder]).contains("9 of 11 receivers"))
        #expect(try String(contentsOfFile: "\(folder)/report.html", encoding: .utf8) == page)

        // The unplugged host's agent notices that nobody asks any more; all others have ended.
        try waitUntil(seconds: 45, "the lost host to end what it ran: \(hosts.processes())") {
            hosts.processes().isEmpty
        }
    }

    /// Those of agents.
    private static func directories() throws -> Set<String> {
        Set(try FileManager.default.contentsOfDirectory(atPath: "/tmp").filter { $0.hasPrefix("flexicast-campaign.") })
    }

    enum End: String, CaseIterable { case interrupted, killed }

    /// However it ends, nothing that it started stays on a host.
    @Test(arguments: End.allCases)
    func nothingIsLeftBehind(_ end: End) throws {
        let temporary = try TemporaryDirectory()
        let hosts = try CampaignHosts(temporary.url)
        let places = try (0..<2).map { _ in try Place() }
        for (name, place) in zip(["src", "rcv"], places) { try hosts.add(name, place) }
        try hosts.awaitAll()
        let plan =
            hosts.plan(program: Ground.program) + """
                source: {host: src, listen: 10.99.0.1:4433, group: 239.77.0.1:4477, interface: mgmt0}
                receivers: [{host: rcv, path: multicast, interface: mgmt0, count: 2}]
                send: {items: 1000, interval: 100ms}
                faults: [{at: 200ms, cut: rcv}]

                """
        let before = try Self.directories()
        let campaign = try hosts.start(plan, output: "run")
        try waitUntil(seconds: 40, "some items\n\(campaign.told.strange)\(campaign.logTail)") {
            hosts.items("run", "rcv-2") >= 5 || !campaign.isRunning
        }
        // Two agents, a source, two receivers, and the filter.
        #expect(hosts.processes().count == 6, "\(hosts.processes())")
        let status = try campaign.end(end == .interrupted ? SIGINT : SIGKILL)
        #expect(status == (end == .interrupted ? 1 : -SIGKILL))
        try waitUntil(seconds: 15, "the hosts to be empty: \(hosts.processes())") { hosts.processes().isEmpty }
        #expect(try places[1].shell(["nft", "list", "tables"]) == "")
        let left = try Self.directories().subtracting(before)
        #expect(left == [])
        guard end == .interrupted else { return }
        let result = try CampaignResult(folder: temporary.url.appending(path: "run").path)
        #expect(result.facts.isInterrupted)
        #expect(result.measurement.receivers.allSatisfy { $0.items >= 4 })
        let page = try String(contentsOf: temporary.url.appending(path: "run/report.html"), encoding: .utf8)
        #expect(page.contains("The campaign was interrupted"))
    }
}
