/// Any store: so that a log with one in memory and one on disk are of the same type.
public struct AnyLogStore: LogStore {
    private var store: any LogStore

    public init(_ store: any LogStore) { self.store = store }

    public mutating func load() throws(LogStoreError) -> StoredLog { try store.load() }
    public mutating func reserve(_ count: UInt64) throws(LogStoreError) -> UInt64 { try store.reserve(count) }
    public mutating func append(_ part: Part) throws(LogStoreError) { try store.append(part) }
    public mutating func trim(below sequence: UInt64) throws(LogStoreError) { try store.trim(below: sequence) }
}
