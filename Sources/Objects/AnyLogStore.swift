/// A store of any kind, where which one it is is known only as the program runs: `ObjectLog<AnyLogStore>` is one type,
/// whether its log outlives the process or not.
public struct AnyLogStore: LogStore {
    /// The store itself, for what only its kind has.
    public private(set) var base: any LogStore

    /// Stands in front of `store`.
    public init(_ store: some LogStore) { base = store }

    /// As the store itself.
    public mutating func load() throws(LogStoreError) -> StoredLog { try base.load() }

    /// As the store itself.
    public mutating func reserve(_ count: UInt64) throws(LogStoreError) -> UInt64 { try base.reserve(count) }

    /// As the store itself.
    public mutating func append(_ part: Part) throws(LogStoreError) { try base.append(part) }

    /// As the store itself.
    public mutating func trim(below sequence: UInt64) throws(LogStoreError) { try base.trim(below: sequence) }
}
