import Foundation
import TestSupport
import Testing

@testable import Crowd

/// What a source keeps for receivers that take nothing of what is published. Two hundred by default;
/// `FLEXICAST_CROWD=20000` for the whole truth, with `FLEXICAST_CROWD_PROGRAM` built for speed.
@Suite struct CrowdTests {
    static let receivers =
        ProcessInfo.processInfo.environment["FLEXICAST_CROWD"].flatMap { Int($0) } ?? 200
    static let program =
        ProcessInfo.processInfo.environment["FLEXICAST_CROWD_PROGRAM"]
        ?? URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
        .appending(path: "Crowd").path
    /// Five objects a second for ten minutes.
    static let seconds = 600
    static let objects = 3000
    /// Octets that so many receivers may cost the source beyond their connections.
    static let limit = 64 << 20
    static let receiversOfLimit = 20_000

    private func crowd(_ receivers: Int, objects: Int, kind: Int? = nil) throws -> CrowdReport {
        let result = try run(
            Self.program, ["\(receivers)", "\(Self.seconds)", "\(objects)"] + (kind.map { ["\($0)"] } ?? []))
        guard result.status == 0 else { throw Failure(description: "Crowd: \(result.errors)") }
        return try JSONDecoder().decode(CrowdReport.self, from: Data(result.output.utf8))
    }

    @Test func whoTakesNothingCostsNothing() throws {
        // The log is there whoever listens.
        let log = try crowd(0, objects: Self.objects)
        let quiet = try crowd(Self.receivers, objects: 0)
        let told = try crowd(Self.receivers, objects: Self.objects)
        for report in [quiet, told] {
            #expect(report.stillConnected == Self.receivers)
            #expect(report.leftBehind == 0)
        }
        #expect(told.inFlight > quiet.inFlight, "those that grant credit were sent something")

        func each(_ octets: Int) -> Int { octets / Self.receivers }
        let inLog = log.after.heap - log.connected.heap
        let above = (told.after.heap - told.before.heap) - (quiet.after.heap - quiet.before.heap) - inLog
        let left = (told.gone.heap - told.before.heap) - (quiet.gone.heap - quiet.before.heap) - inLog
        let resident =
            (told.after.resident - told.before.resident) - (quiet.after.resident - quiet.before.resident)
        note("\(Self.receivers) receivers that take nothing, the log has \(inLog) octets")
        note("octets of heap for each with nothing published: \(each(quiet.connected.heap - quiet.before.heap))")
        note("after \(Self.seconds) s without anything: \(each(quiet.after.heap - quiet.before.heap))")
        note("after \(Self.objects) objects in \(Self.seconds) s: \(each(told.after.heap - told.before.heap - inLog))")
        note("above those with nothing published, log included: \(above + inLog), for each \(each(above))")
        note("resident above those with nothing published: \(resident), for each \(each(resident))")
        note(
            "left of each when all have gone: \(each(told.gone.heap - told.before.heap - inLog)), with nothing published \(each(quiet.gone.heap - quiet.before.heap))"
        )
        let share = (Self.limit - inLog) / Self.receiversOfLimit
        #expect(above <= Self.receivers * share, "\(each(above)) octets for each, \(share) may be")
        // Tables keep their size, the same with and without objects.
        #expect(left <= Self.receivers * share / 8, "\(each(left)) octets of each are not given back")
    }

    /// The dearest kind: it grants credit and acknowledges everything but parts, so that nothing else of its waits, and as
    /// many parts as the first window takes do. A crowd of nothing else would be above the limit.
    @Test func whoAcknowledgesAllButPartsCostsAWindow() throws {
        let receivers = 50
        let log = try crowd(0, objects: Self.objects)
        let quiet = try crowd(receivers, objects: 0, kind: 3)
        let told = try crowd(receivers, objects: Self.objects, kind: 3)
        let inLog = log.after.heap - log.connected.heap
        let above = (told.after.heap - told.before.heap) - (quiet.after.heap - quiet.before.heap) - inLog
        note("who acknowledges all but parts: \(above / receivers) octets for each above those with nothing published")
        #expect(above <= receivers * 5500)
    }

    private func note(_ text: String) { print("    crowd: \(text)") }
}
