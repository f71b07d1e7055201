import System

/// Whether what a source publishes comes to the disk: a full one, for example, leaves it in memory until there is room.
struct Durability {
    private let store: SQLiteLogStore?
    /// Why not; nil when it does, or when there is no disk.
    private(set) var trouble: String?

    init(_ store: SQLiteLogStore?) { self.store = store }

    /// What is to be told, if that has changed.
    mutating func look() -> SourceEvent? {
        guard let store, case let now = store.trouble, (now == nil) != (trouble == nil) else { return nil }
        trouble = now
        let counts = store.statistics
        return .log(reason: now, waiting: counts.waitingOctets, refused: counts.partsRefused)
    }
}
