/// What a log's store holds, as it is read when the log is opened.
public struct StoredLog: Sendable, Equatable {
    /// The epoch that all numbers are of.
    public var epoch: Epoch
    /// The lowest number that was never reserved.
    public var next: UInt64
    /// All below it was trimmed.
    public var oldest: UInt64
    /// The parts that are kept, ascending.
    public var parts: [Part]

    /// The defaults are a log that nothing was ever appended to.
    public init(epoch: Epoch, next: UInt64 = 0, oldest: UInt64 = 0, parts: [Part] = []) {
        self.epoch = epoch
        self.next = next
        self.oldest = oldest
        self.parts = parts
    }
}

/// Why a store did not do what it was asked to, in words.
public struct LogStoreError: Error, Equatable, Sendable {
    /// One sentence for people.
    public var reason: String
    /// - Parameter reason: one sentence for people.
    public init(_ reason: String) { self.reason = reason }
}

/// Where a log outlives the process, or is shared with others. The log keeps all parts in memory as well: a store is read
/// when the log is opened, and only written to from then on.
///
/// The one promise that all else stands on: within an epoch no number is reserved twice, whatever fails in between. A store
/// must have a reservation on safe ground before it returns it. Parts may be written later: one that was lost is told as
/// void. What it does takes no time on the thread that serves, so a store on disk writes behind it.
public protocol LogStore: Sendable {
    /// What is kept.
    mutating func load() throws(LogStoreError) -> StoredLog
    /// Reserves `count` numbers in a row, above all that were ever reserved in this epoch, and returns the first.
    mutating func reserve(_ count: UInt64) throws(LogStoreError) -> UInt64
    /// Keeps a part; its number is above those of all before it.
    mutating func append(_ part: Part) throws(LogStoreError)
    /// Forgets all parts below `sequence`.
    mutating func trim(below sequence: UInt64) throws(LogStoreError)
}
