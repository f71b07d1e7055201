/// Streams by their IDs, as a dictionary would hold them, but side by side in an array: an index stays good until a stream
/// is removed, values are changed where they lie, and the ID looked up most often, that of the stream used last, is not
/// hashed again for each frame. A few streams are looked through one by one, so that a connection with one or two has no
/// dictionary.
struct StreamMap<Stream: Sendable>: Sendable {
    struct Index: Sendable, Equatable {
        fileprivate var slot: Int
    }

    private var slots: [(id: StreamID, stream: Stream)] = []
    /// Empty as long as there are no more than `fewest`.
    private var slotOfID: [StreamID: Int] = [:]
    private static var fewest: Int { 8 }
    /// The slot that was changed last, if it is still there.
    private var last = 0

    var count: Int { slots.count }
    var ids: some Sequence<StreamID> { slots.lazy.map(\.id) }
    var streams: some Sequence<Stream> { slots.lazy.map(\.stream) }

    @inline(__always)
    func contains(_ id: StreamID) -> Bool { index(of: id) != nil }

    /// The stream that was changed last, or another when that is gone; nil when there is none.
    @inline(__always)
    var latest: Index? { last < slots.count ? Index(slot: last) : nil }

    @inline(__always)
    func index(of id: StreamID) -> Index? {
        if last < slots.count, slots[last].id == id { return Index(slot: last) }
        return search(id).map { Index(slot: $0) }
    }

    private func search(_ id: StreamID) -> Int? {
        if slots.count > Self.fewest { return slotOfID[id] }
        for slot in slots.indices where slots[slot].id == id { return slot }
        return nil
    }

    subscript(_ index: Index) -> Stream {
        @inline(__always) get { slots[index.slot].stream }
        @inline(__always) _modify {
            last = index.slot
            // Through a span, as the array's own accessor is a coroutine that is called.
            var all = slots.mutableSpan
            yield &all[index.slot].stream
        }
    }

    /// Adds a stream whose ID is not there yet.
    @discardableResult
    mutating func insert(_ stream: Stream, id: StreamID) -> Index {
        precondition(search(id) == nil, "stream \(id.rawValue) is there already")
        last = slots.count
        slots.append((id, stream))
        if slots.count > Self.fewest {
            if slotOfID.isEmpty {
                for slot in slots.indices { slotOfID[slots[slot].id] = slot }
            } else {
                slotOfID[id] = last
            }
        }
        return Index(slot: last)
    }

    /// Removes a stream; indexes are void afterwards.
    mutating func remove(_ id: StreamID) -> Stream? {
        guard let slot = search(id) else { return nil }
        // The newest one fills the hole.
        let end = slots.removeLast()
        if slots.count > Self.fewest {
            slotOfID[id] = nil
            if slot < slots.count { slotOfID[end.id] = slot }
        } else if !slotOfID.isEmpty {
            slotOfID.removeAll(keepingCapacity: true)
        }
        guard slot < slots.count else { return end.stream }
        defer { slots[slot] = end }
        return slots[slot].stream
    }
}
