import Glibc
import Synchronization
import System

/// Standard output on a thread of its own, so that a reader who pauses does not hold up the connections.
///
/// A reader that has gone away is not a failure: what is written from then on is dropped, and `hasReader` tells.
package final class OutputWriter: Sendable {
    /// Octets that wait for the reader; then `write` blocks, because nothing may be left out.
    package static let queueBytes = 16 << 20
    /// How long `flush` waits for a reader that takes nothing.
    package static let patience = Duration.seconds(5)

    private struct Queue {
        var chunks: [[UInt8]] = []
        var bytes = 0
        var isBroken = false
    }

    private let queue = Mutex(Queue())
    private let condition = Condition()
    private let output: OpenFile
    private let onGone: @Sendable () -> Void

    /// - Parameter onGone: called once, on the writer's thread, when the reader has gone.
    package init(_ output: OpenFile = .standardOutput, onGone: @escaping @Sendable () -> Void = {}) {
        self.output = output
        self.onGone = onGone
        // Without this the process would end with the first write to a closed pipe.
        signal(SIGPIPE, SIG_IGN)
        startThread("output") { [self] in run() }
    }

    package var hasReader: Bool { queue.withLock { !$0.isBroken } }

    /// Queues `bytes`, which leave whole and in order.
    package func write(_ bytes: [UInt8]) {
        condition.lock()
        defer { condition.unlock() }
        while queue.withLock({ $0.bytes > 0 && $0.bytes + bytes.count > Self.queueBytes }) { condition.wait() }
        queue.withLock { queue in
            guard !queue.isBroken else { return }
            queue.chunks.append(bytes)
            queue.bytes += bytes.count
        }
        condition.broadcast()
    }

    /// Waits until everything was taken, or `patience` has run out.
    package func flush() {
        let end = ContinuousClock.now + Self.patience
        condition.lock()
        defer { condition.unlock() }
        while queue.withLock({ $0.bytes > 0 }), condition.wait(for: max(.zero, end - ContinuousClock.now)) {}
    }

    private func run() {
        while true {
            condition.lock()
            while queue.withLock({ $0.chunks.isEmpty }) { condition.wait() }
            let chunks = queue.withLock { queue in
                defer { queue.chunks = [] }
                return queue.chunks
            }
            condition.unlock()
            var isBroken = false
            for chunk in chunks where !isBroken {
                do { try output.write(chunk) } catch { isBroken = true }
                condition.lock()
                queue.withLock { queue in
                    queue.bytes -= chunk.count
                    guard isBroken else { return }
                    queue.isBroken = true
                    queue.chunks = []
                    queue.bytes = 0
                }
                condition.broadcast()
                condition.unlock()
            }
            if isBroken {
                onGone()
                return
            }
        }
    }
}
