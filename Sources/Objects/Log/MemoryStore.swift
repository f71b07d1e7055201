/// A store that lives as long as the process: what a log needs when it need not outlive it. Parts are not kept, because
/// the log has them.
public struct MemoryStore: LogStore {
    private let epoch: Epoch
    private var next: UInt64

    /// - Parameters:
    ///   - epoch: one that no log had before.
    ///   - next: where numbers begin.
    public init(epoch: Epoch, from next: UInt64 = 0) {
        self.epoch = epoch
        self.next = next
    }

    /// What there is before the first reservation: nothing. Never throws.
    public mutating func load() throws(LogStoreError) -> StoredLog { StoredLog(epoch: epoch, next: next, oldest: next) }

    /// Never throws.
    public mutating func reserve(_ count: UInt64) throws(LogStoreError) -> UInt64 {
        defer { next += count }
        return next
    }

    /// Does nothing: the log has the part.
    public mutating func append(_ part: Part) throws(LogStoreError) {}

    /// Does nothing: the log forgets by itself.
    public mutating func trim(below sequence: UInt64) throws(LogStoreError) {}
}
