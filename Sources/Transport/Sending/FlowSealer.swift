import Cryptography
import Flexicast
import QUIC
import Wire

/// The keys of a flow's packets: has them written and seals them, each run in one call.
package struct FlowSealer {
    private var keys: [UInt64: SealingKey] = [:]
    /// The key used last.
    private var current: (generation: UInt64, key: SealingKey)?
    // Reused, so that a packet allocates nothing.
    private var runs: [RunPlan] = []
    /// Sees packets in the clear before they are sealed, for a log; nil costs nothing.
    package var onRun: ((RunPlan, Span<UInt8>) -> Void)?

    package init() { runs.reserveCapacity(16) }

    package mutating func take(_ change: KeyChange) {
        switch change {
        case .install(let key): keys[key.generation] = SealingKey(suite: key.suite, secret: key.secret)
        case .drop(let generation):
            keys[generation] = nil
            current = nil
        }
    }

    /// Fills the buffer with up to `count` full packets, or a shorter one that ends the run: how many octets.
    package mutating func write(
        _ flow: inout FlowSource, into buffer: inout MutableSpan<UInt8>, packets count: Int, at now: Instant
    ) -> Int {
        while !runs.isEmpty { runs.removeLast() }
        var writer = ByteWriter(&buffer)
        flow.transmitRun(of: count, into: &writer, runs: &runs, at: now)
        let octets = writer.offset
        if let onRun {
            for run in runs { onRun(run, buffer.span) }
        }
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
