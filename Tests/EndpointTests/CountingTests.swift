import Flexicast
import PerfCounter
import Reactor
import Testing
import Wire

@testable import Endpoint

/// What a packet of the flow costs, counted: `PerfCounter` stands before the C library and counts this thread's calls.
///
/// Start-up, tables that grow and the first use of this or that are in both runs and cancel in the difference of a run
/// of N packets and one of 3N. `swift test -c release -Xswiftc -enable-testing --filter CountingTests` judges all of it;
/// `make perf-check` does so on the product.
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
    func aPacketOfTheFlowCostsNoAllocationOneCopyAndFewSystemCalls(way: Way) throws {
        var options = FlowTrialOptions()
        options.io = way.io
        options.itemSize = way.itemSize
        options.rate = way.rate
        options.isHeard = true
        options.group = SocketAddress(.v4(0xef0a_0002), port: way.io == .epoll ? 5997 : 5998)
        let trial = try FlowTrial(options)
        // Until every table has its size.
        trial.run(packets: 8000)

        let short = measure(trial, packets: 2000)
        let long = measure(trial, packets: 6000)
        let packets = Double(long.counts.packets - short.counts.packets)
        #expect(packets > 3500)

        let calls = Double(long.counts.systemCalls) - Double(short.counts.systemCalls)
        #expect(calls / packets <= 0.1)

        // Unoptimised code boxes and copies for itself: there only the release build can be judged.
        #if !DEBUG
            #expect(
                long.allocations == short.allocations,
                "\(long.allocations) allocations in \(long.counts.packets) packets, \(short.allocations) in \(short.counts.packets)"
            )
            // The one copy, from the item into the send buffer, is `ByteWriter.octets`, which is compiled in place:
            // whatever the C library copies besides would be a second one.
            let copied = Double(long.copied) - Double(short.copied)
            #expect(copied / packets < Double(options.packetSize) / 100)
        #endif

        // It was real: all of it was sent, heard, opened and acknowledged.
        #expect(long.counts.received >= long.counts.packets - 1000)
        #expect(long.counts.acknowledgements > 0)
        #expect(long.counts.refused == 0)
    }

    private func measure(
        _ trial: FlowTrial, packets: UInt64
    ) -> (counts: FlowTrialCounts, allocations: UInt64, copied: UInt64) {
        let start = trial.counts
        let before = perf_counts_now()
        trial.run(packets: packets)
        let after = perf_counts_now()
        return (trial.counts - start, after.allocations - before.allocations, after.copied - before.copied)
    }
}
