/// The objects that a source has published, as parts by sequence number: what the flow and every receiver's cursor read
/// from.
///
///     append ──> next │             oldest ………………………………………………… next
///                     └──> LogStore  gone │ in the store ┊ part part void part │ beyond
///
/// With a store that parts can be read from again, the newest are held in memory up to a limit, and of older ones only what
/// and how large they are: whoever needs one reads it there (`LogEntry.stored`). One that its store does not have stays in
/// memory, and is forgotten with its object when there is no room for it.
///
/// Numbers are reserved in blocks, so that not every object waits for the store. Those left over when a log is opened again
/// are void, and told as such. An object is forgotten whole, oldest first (`Retention`).
///
/// Objects are published one after the other: their numbers are in a row, so that an object whose parts come one by one
/// (`begin`) keeps others waiting until it ends. Lower numbers are always decided before higher ones: whatever is below
/// `next` is a part, void or gone, and never changes but from a part to void or gone.
public struct ObjectLog: Sendable {
    /// Numbers reserved at a time.
    public static let blockSize: UInt64 = 1024

    /// The epoch that all numbers are of. It stays for as long as the log's store keeps it.
    public let epoch: Epoch
    /// What is kept, and what is forgotten.
    public let retention: Retention
    /// The lowest number that is kept. All below it is gone.
    public internal(set) var oldest: UInt64
    /// The number that the next part gets, unless some are left out: the live edge.
    public internal(set) var next: UInt64
    /// Objects kept.
    public internal(set) var objectCount = 0
    /// Octets kept, those of whole streams: preludes are counted in.
    public internal(set) var octetCount = 0
    /// Octets of those parts that are in memory.
    public internal(set) var heldOctets = 0
    /// Octets of parts that memory may hold, but for those that wait for the store, and for the newest part; nil for any number.
    public let memory: Int?
    /// Counts since the log was opened.
    public internal(set) var statistics = LogStatistics()
    /// Where it outlives the process, if it does.
    public internal(set) var store: any LogStore

    /// Parts that are in the store alone: all of them are below those in memory.
    var older = SequenceQueue<StoredPart>()
    var parts = SequenceQueue<Part>()
    /// Numbers of parts in memory that the store does not have, ascending; those that have left stay until the ones before
    /// them have left too.
    var unstored: [Range<UInt64>] = []
    /// When objects that are whole end, of those that do.
    var lifetimes = LifetimeQueue()
    /// Numbers from `oldest` on of parts that were forgotten before older ones, ascending: no two without a part between them.
    var forgotten: [Forgotten] = []
    /// The numbers are those of a log that others follow too: a position beyond the live edge here is one of theirs.
    public let isFollower: Bool
    /// Up to where numbers are reserved.
    var reserved: UInt64
    var open: OpenObject?

    /// Parts kept.
    public var partCount: Int { older.count + parts.count }
    /// Whether an object has begun and not ended.
    public var isObjectOpen: Bool { open != nil }

    /// A log with what `store` holds. An object that it holds not all parts of is void.
    /// - Parameter memory: octets of parts to hold in memory, where the store has a reader; nil for all.
    public init(_ store: some LogStore, retention: Retention = Retention(), memory: Int? = nil) throws(LogError) {
        try self.init(store, retention: retention, memory: memory, isFollower: false)
    }

    init(_ store: some LogStore, retention: Retention, memory: Int?, isFollower: Bool) throws(LogError) {
        self.store = store
        self.isFollower = isFollower
        self.retention = retention
        self.memory = store.reader == nil ? nil : memory
        let stored: StoredLog
        do {
            if let memory = self.memory {
                stored = try self.store.load(holding: memory)
            } else {
                stored = try self.store.load()
            }
        } catch {
            throw .store(error.reason)
        }
        epoch = stored.epoch
        next = stored.next
        reserved = stored.next
        oldest = stored.oldest
        try load(stored)
        applyRetention(at: nil)
    }

    private mutating func load(_ stored: StoredLog) throws(LogError) {
        guard stored.oldest <= stored.next, stored.next <= ObjectLimits.sequences else {
            throw .store("it holds numbers \(stored.oldest) to \(stored.next), which cannot be")
        }
        var place = stored.oldest
        var object: [StoredPart] = []
        let count = stored.older.count
        for index in 0..<(count + stored.parts.count) {
            let part = index < count ? stored.older[index] : StoredPart(stored.parts[index - count])
            guard part.sequence >= place, part.sequence < stored.next, part.index <= part.sequence else {
                throw .store("part \(part.sequence) is out of order, or was never reserved")
            }
            place = part.sequence + 1
            if part.index == 0 { object.removeAll(keepingCapacity: true) }
            guard part.index == UInt64(object.count), object.isEmpty || part.object == object[0].sequence else {
                object.removeAll(keepingCapacity: true)
                continue
            }
            object.append(part)
            guard part.isLast else { continue }
            for step in (0..<object.count).reversed() {
                if index - step < count {
                    keep(object[object.count - 1 - step])
                } else {
                    keep(stored.parts[index - step - count])
                }
            }
            objectCount += 1
            object.removeAll(keepingCapacity: true)
        }
    }

    /// Holds a part whose object is, or may become, whole.
    mutating func keep(_ part: consuming Part) {
        let length = part.streamLength
        octetCount += length
        heldOctets += length
        parts.append(part)
    }

    /// The same for one that is in the store alone.
    private mutating func keep(_ part: StoredPart) {
        octetCount += Int(part.octets)
        older.append(part)
    }
}

/// What a log has done so far.
public struct LogStatistics: Sendable, Equatable {
    /// Objects that are whole in the log, whether they are still kept or not.
    var objectsAppended: UInt64 = 0
    /// Parts appended, those of objects that were abandoned included.
    var partsAppended: UInt64 = 0
    /// Objects forgotten because of a limit of `Retention`.
    public var objectsForgotten: UInt64 = 0
    /// Objects that were forgotten because their lifetime was over.
    public var objectsExpired: UInt64 = 0
    /// Objects that began and were abandoned.
    public var objectsAbandoned: UInt64 = 0
    /// Numbers that were left out because a block did not follow the one before, or was too small.
    public var numbersLeftOut: UInt64 = 0
    /// Objects that were forgotten because neither memory nor the store had room for them, or the store lost them.
    public var objectsLost: UInt64 = 0
    /// Times that the store failed to keep or to trim; the log went on without.
    public var storeFailures: UInt64 = 0
}

/// Why an object was not taken into a log. Nothing of it was published, unless it had begun: then it can be abandoned.
public enum LogError: Error, Equatable, Sendable {
    /// An object has begun and not ended: finish or abandon it first.
    case objectIsOpen
    /// No object has begun.
    case noObjectOpen
    /// More octets than `Retention` lets the log hold.
    case tooLarge(octets: Int, limit: Int)
    /// The parts of an object are not as long as was said when it began.
    case lengthMismatch(declared: UInt64, actual: UInt64)
    /// A field of the header, or a part, is too long.
    case malformed(ObjectsError)
    /// All sequence numbers of the epoch are used up.
    case numbersExhausted
    /// The store failed, or broke its promise.
    case store(String)
}

extension LogError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .objectIsOpen: "an object has begun and not ended; finish or abandon it before the next"
        case .noObjectOpen: "no object has begun; begin one before its parts"
        case .tooLarge(let octets, let limit):
            "the object would take \(octets) octets; the log may hold \(limit)"
        case .lengthMismatch(let declared, let actual):
            "the object has \(actual) octets, and \(declared) were declared as it began"
        case .malformed(let error): error.description
        case .numbersExhausted: "all sequence numbers of this epoch are used up; start another epoch"
        case .store(let reason): "the log's store: \(reason)"
        }
    }
}
