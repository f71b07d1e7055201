import Cryptography
import Flexicast
import QUIC
import Wire

/// A flow and the keys of its packets: it writes them and seals them, each run in one call.
///
/// All that a run touches is in here, so that each is one access to what owns it.
struct FlowWriter {
    var flow: FlowSource
    private let packetSize: Int
    private var keys: [UInt64: SealingKey] = [:]
    /// The key used last.
    private var current: (generation: UInt64, key: SealingKey)?
    // Reused, so that a packet allocates nothing.
    private var runs: [RunPlan] = []

    init(_ flow: FlowSource) {
        self.flow = flow
        packetSize = flow.configuration.packetSize
        runs.reserveCapacity(16)
    }

    mutating func install(_ key: FlowKey) {
        keys[key.generation] = SealingKey(suite: key.suite, secret: key.secret)
    }

    mutating func dropKey(_ generation: UInt64) {
        keys[generation] = nil
        current = nil
    }

    /// When there is something to do again, after `now`.
    mutating func nextDeadline(after now: Instant) -> Instant {
        let deadline = flow.nextDeadline
        // A deadline that has passed with nothing to send waits for something else than time.
        return deadline > now ? deadline : Instant(nanoseconds: now.nanoseconds + 1_000_000)
    }

    /// Fills the buffer with up to `count` full packets, or a shorter one that ends the run: how many octets.
    mutating func write(
        into buffer: inout MutableSpan<UInt8>, packets count: Int, at now: Instant
    ) -> Int {
        while !runs.isEmpty { runs.removeLast() }
        var writer = ByteWriter(&buffer)
        flow.transmitRun(of: count, into: &writer, runs: &runs, at: now)
        let octets = writer.offset
        for index in runs.indices { seal(&buffer, runs[index]) }
        return octets
    }

    /// One call for each stretch of consecutive numbers: nearly always one for all.
    private mutating func seal(_ buffer: inout MutableSpan<UInt8>, _ run: RunPlan) {
        if let current, current.generation == run.keyGeneration {
            current.key.seal(&buffer, run)
            return
        }
        guard let key = keys[run.keyGeneration] else {
            preconditionFailure("no key of generation \(run.keyGeneration)")
        }
        key.seal(&buffer, run)
        current = (run.keyGeneration, key)
    }
}
