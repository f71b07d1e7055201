import ArgumentParser
import FoundationEssentials
import Operation
import Simulation
import System

struct SimulateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate",
        abstract: "Simulate a source and its receivers: real machines, a network and a clock that are not.",
        discussion: """
            The same seed and plan give the same run, and the same digest. Exit status 0 when every receiver that plays by the \
            rules had every object once, in time, and nothing was left when all had gone; 2 when not.
            """)

    @Option(help: ArgumentHelp("The world, in YAML; docs/simulation.md has its keys.", valueName: "file"))
    var plan: String?

    @Option(help: ArgumentHelp("Receivers that play by the rules (default: the plan's, or 1000).", valueName: "n"))
    var receivers: Int?

    @Option(
        help: ArgumentHelp("Simulated time (default: the plan's, or 1m).", valueName: "duration"),
        transform: parseDuration)
    var duration: Duration?

    @Option(help: ArgumentHelp("What all chance comes from.", valueName: "n"))
    var seed: UInt64 = 1

    @Flag(help: "One line of JSON instead of words.")
    var json = false

    func validate() throws {
        if let receivers, !(0...1_000_000).contains(receivers) {
            throw ValidationError("--receivers is from 0 to 1000000.")
        }
    }

    func run() throws {
        var plan = try self.plan.map { try SimulationPlan(file: $0) } ?? SimulationPlan()
        if let receivers { plan.receivers = receivers }
        if let duration { plan.duration = duration }
        let start = ContinuousClock.now
        let report = SimulationRun(plan, seed: seed).run()
        let result = SimulationResult(report, seed: seed, took: (ContinuousClock.now - start) / .seconds(1))
        print(json ? try result.line : result.text)
        if report.complaintCount > 0 { throw ExitCode(2) }
    }
}

/// A simulation's report as it is printed.
private struct SimulationResult: Encodable {
    let seed: UInt64
    let digest: String
    let receivers: Int
    let liars: Int
    let objects: Int
    let objects_received: UInt64
    let datagrams: UInt64
    let simulated_seconds: Double
    let seconds: Double
    let latency_ms_p50: Double
    let latency_ms_p99: Double
    let latency_ms_p999: Double
    let latency_ms_max: Double
    let members_at_end: Int
    let complaints: Int
    let first_complaints: [String]

    init(_ report: SimulationReport, seed: UInt64, took: Double) {
        self.seed = seed
        digest = String(report.digest, radix: 16)
        receivers = report.receivers
        liars = report.liars
        objects = report.objects
        objects_received = report.received
        datagrams = report.deliveries
        simulated_seconds = report.duration / .seconds(1)
        seconds = took
        latency_ms_p50 = report.latency.p50
        latency_ms_p99 = report.latency.p99
        latency_ms_p999 = report.latency.p999
        latency_ms_max = report.longest / .milliseconds(1)
        members_at_end = report.members
        complaints = report.complaintCount
        first_complaints = report.complaints
    }

    var line: String { get throws { String(decoding: try JSONEncoder().encode(self), as: UTF8.self) } }

    var text: String {
        """
        seed \(seed), digest \(digest): \(receivers) receivers and \(liars) that lie, \(Int(simulated_seconds)) s of \
        simulated time in \(Int(seconds.rounded())) s, \(datagrams) datagrams
        \(objects) objects, \(objects_received) received, after \(Int(latency_ms_p50)) ms (median), \
        \(Int(latency_ms_p99)) ms (99 %), \(Int(latency_ms_max)) ms (longest); \(members_at_end) members at the end
        \(complaints == 0 ? "no complaint" : "\(complaints) complaints:\n  " + first_complaints.joined(separator: "\n  "))
        """
    }
}
