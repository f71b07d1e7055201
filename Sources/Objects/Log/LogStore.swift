/// What a log's store holds, as it is read when the log is opened.
public struct StoredLog: Sendable, Equatable {
    /// The epoch that all numbers are of.
    public var epoch: Epoch
    /// The lowest number that was never reserved.
    public var next: UInt64
    /// All below it was trimmed.
    public var oldest: UInt64
    /// Parts that are kept and were not read, ascending, and below all of `parts`: only of a store with a reader.
    public var older: [StoredPart]
    /// The parts that are kept, ascending.
    public var parts: [Part]

    /// The defaults are a log that nothing was ever appended to.
    public init(
        epoch: Epoch, next: UInt64 = 0, oldest: UInt64 = 0, older: [StoredPart] = [], parts: [Part] = []
    ) {
        self.epoch = epoch
        self.next = next
        self.oldest = oldest
        self.older = older
        self.parts = parts
    }
}

/// What a log knows of a part that is in its store and not in memory.
public struct StoredPart: Sendable, Equatable {
    /// The part's number in the log.
    public var sequence: UInt64
    /// Which part of its object it is, from 0.
    public var index: UInt64
    /// When its object was published.
    public var published: WallTime
    /// Octets of its stream.
    public var octets: UInt32
    /// It is the last part of its object.
    public var isLast: Bool

    /// The number of its object's first part.
    public var object: UInt64 { sequence - index }

    /// As a store has noted it. `index` must not be above `sequence`.
    public init(sequence: UInt64, index: UInt64, published: WallTime, octets: UInt32, isLast: Bool) {
        self.sequence = sequence
        self.index = index
        self.published = published
        self.octets = octets
        self.isLast = isLast
    }

    /// What is to be known of a part.
    public init(_ part: borrowing Part) {
        sequence = part.sequence
        index = part.header.index
        published = part.header.published
        octets = UInt32(part.streamLength)
        isLast = part.header.count == part.header.index + 1
    }
}

/// Why a store did not do what it was asked to, in words.
public struct LogStoreError: Error, Equatable, Sendable {
    /// One sentence for people.
    public var reason: String
    /// - Parameter reason: one sentence for people.
    public init(_ reason: String) { self.reason = reason }
}

/// Reads parts that a log does not hold in memory, on a thread of its own.
public protocol PartReader: Sendable {
    /// Reads the parts with these numbers, and returns at once.
    ///
    /// - Parameter completion: gets those that are there, ascending, or why nothing can be read; called once, on another
    ///   thread or on this one.
    func read(
        _ numbers: Range<UInt64>, completion: @escaping @Sendable (Result<[Part], LogStoreError>) -> Void)
}

/// Where a log outlives the process, or is shared with others. Without a `reader` the log keeps all parts in memory as well:
/// such a store is read when the log is opened, and only written to from then on.
///
/// The one promise that all else stands on: within an epoch no number is reserved twice, whatever fails in between. A store
/// must have a reservation on safe ground before it returns it. Parts may be written later: one that was lost is told as
/// void. What it does takes no time on the thread that serves, so a store on disk writes behind it.
public protocol LogStore: Sendable {
    /// What is kept.
    mutating func load() throws(LogStoreError) -> StoredLog
    /// The same; a store with a reader reads no more than the newest parts that have so many octets together.
    mutating func load(holding octets: Int) throws(LogStoreError) -> StoredLog
    /// Reserves `count` numbers in a row, above all that were ever reserved in this epoch, and returns the first.
    mutating func reserve(_ count: UInt64) throws(LogStoreError) -> UInt64
    /// Keeps a part; its number is above those of all before it.
    mutating func append(_ part: Part) throws(LogStoreError)
    /// Forgets all parts below `sequence`.
    mutating func trim(below sequence: UInt64) throws(LogStoreError)

    /// What reads parts again; nil when the log has to hold them all.
    var reader: (any PartReader)? { get }
    /// Parts below it that were appended, and not trimmed since, are what the reader finds.
    var readable: UInt64 { get }
    /// Why what is appended now is not on safe ground, in words; nil when it is, or will be in a moment.
    var trouble: String? { get }
}

extension LogStore {
    /// Everything: the log holds it.
    public mutating func load(holding octets: Int) throws(LogStoreError) -> StoredLog { try load() }
    /// None.
    public var reader: (any PartReader)? { nil }
    /// Nothing.
    public var readable: UInt64 { 0 }
    /// None that is known.
    public var trouble: String? { nil }
}
