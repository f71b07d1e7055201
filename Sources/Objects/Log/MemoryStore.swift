/// A store that lives as long as the process: what a log needs when it need not outlive it. Parts are not kept, because
/// the log has them.
public struct MemoryStore: LogStore {
    private let epoch: Epoch
    private var next: UInt64 = 0

    public init(epoch: Epoch) { self.epoch = epoch }

    public mutating func load() throws(LogStoreError) -> StoredLog { StoredLog(epoch: epoch, next: next, oldest: next) }

    public mutating func reserve(_ count: UInt64) throws(LogStoreError) -> UInt64 {
        defer { next += count }
        return next
    }

    public mutating func append(_ part: Part) throws(LogStoreError) {}

    public mutating func trim(below sequence: UInt64) throws(LogStoreError) {}
}
