import Flexicast
import Reactor
import Testing
import Wire

@testable import Measurement
@testable import Transport

/// What a packet of the flow costs in system calls, counted. Start-up cancels in the difference of a run of N packets and
/// one of 3N. Allocations and copies are counted on the release build by `make perf-check`: unoptimised code boxes and
/// copies for itself.
@Suite(.serialized) struct CountingTests {
    /// Sender, kernel, receiver and acknowledgements; a receiver opens every packet, so all of it happened.
    struct Way: CustomTestStringConvertible, Sendable {
        var io: IOBackendChoice
        var itemSize: Int
        var rate: UInt64?
        var testDescription: String {
            "\(io.rawValue), items of \(itemSize) octets, \(rate.map { "\($0 / 1_000_000) Mbit/s" } ?? "full rate")"
        }
    }

    static let ways: [Way] = [IOBackendChoice.epoll, .ioUring].flatMap { io in
        [
            Way(io: io, itemSize: 1 << 20, rate: nil), Way(io: io, itemSize: 700, rate: nil),
            Way(io: io, itemSize: 1 << 20, rate: 100_000_000),
        ]
    }

    @Test(arguments: ways)
    func aPacketOfTheFlowCostsFewSystemCalls(way: Way) throws {
        var options = FlowTrialOptions()
        options.io = way.io
        options.itemSize = way.itemSize
        options.rate = way.rate
        options.isHeard = true
        options.group = SocketAddress(.v4(0xef0a_0002), port: way.io == .epoll ? 5997 : 5998)
        let trial = try FlowTrial(options)
        // Until every table has its size.
        try trial.run(packets: 8000)

        let short = try measure(trial, packets: 2000)
        let long = try measure(trial, packets: 6000)
        let packets = Double(long.packets - short.packets)
        // A turn has 864.
        #expect(packets > 3000)

        let calls = Double(long.systemCalls) - Double(short.systemCalls)
        #expect(calls / packets <= 0.1)

        // It was real: all of it was sent, heard, opened and acknowledged.
        #expect(long.heard >= long.packets - 1000)
        #expect(trial.items.octets >= 1000 * (trial.heard?.packets ?? 0) - UInt64(2 * way.itemSize))
        #expect(trial.items.octets == trial.items.count * UInt64(way.itemSize))
        #expect(long.acknowledgements > 0)
        #expect(long.refused == 0)
    }

    private struct Counts {
        var packets, systemCalls, heard, acknowledgements, refused: UInt64
    }

    private func measure(_ trial: FlowTrial, packets: UInt64) throws -> Counts {
        let (sent, heard, acknowledgements) = (trial.sent, trial.heard?.packets ?? 0, trial.acknowledgements)
        try trial.run(packets: packets)
        let counts = trial.sent - sent
        return Counts(
            packets: counts.packets, systemCalls: counts.systemCalls, heard: (trial.heard?.packets ?? 0) - heard,
            acknowledgements: trial.acknowledgements - acknowledgements, refused: counts.refused)
    }
}
