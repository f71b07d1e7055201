import Objects
import Synchronization

/// What a simulated source finds again when it is started once more: a log's store on a disk that never fails.
final class SimulatedStore: LogStore {
    private struct State {
        var next: UInt64 = 0
        var oldest: UInt64 = 0
        var parts: [Part] = []
    }

    private let epoch: Epoch
    private let state = Mutex(State())

    init(epoch: Epoch) { self.epoch = epoch }

    func load() throws(LogStoreError) -> StoredLog {
        state.withLock { StoredLog(epoch: epoch, next: $0.next, oldest: $0.oldest, parts: $0.parts) }
    }

    func reserve(_ count: UInt64) throws(LogStoreError) -> UInt64 {
        state.withLock { state in
            defer { state.next += count }
            return state.next
        }
    }

    func append(_ part: Part) throws(LogStoreError) { state.withLock { $0.parts.append(part) } }

    func trim(below sequence: UInt64) throws(LogStoreError) {
        state.withLock {
            $0.oldest = max($0.oldest, sequence)
            $0.parts.removeAll { $0.header.sequence < sequence }
        }
    }
}
