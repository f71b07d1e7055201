import Wire

/// Streams by their IDs, as a dictionary would hold them, but side by side in an array: an index stays good until a stream
/// is removed, values are changed where they lie, and the ID looked up most often, that of the stream used last, is not
/// searched again for each frame. A few streams are looked through one by one, so that a connection with one or two has no
/// table. The table is sorted, as streams are opened nearly in the order of their IDs and end nearly so: that costs less than
/// to hash them, and nobody can choose IDs that collide.
struct StreamMap<Stream: Sendable>: Sendable {
    struct Index: Sendable, Equatable {
        fileprivate var slot: Int
    }

    // Not a tuple, which the runtime would copy and destroy field by field.
    private struct Slot: Sendable {
        var id: StreamID
        var stream: Stream
    }

    private var slots: [Slot] = []
    /// Empty as long as there are no more than `fewest`.
    private var table = SlotTable()
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
        if slots.count > Self.fewest { return table.slot(of: id) }
        for slot in slots.indices where slots[slot].id == id { return slot }
        return nil
    }

    subscript(_ index: Index) -> Stream {
        // Through spans, as the array's own accessors copy the stream, or are coroutines that are called.
        @inline(__always) _read {
            let all = slots.span
            yield all[index.slot].stream
        }
        @inline(__always) _modify {
            last = index.slot
            var all = slots.mutableSpan
            yield &all[index.slot].stream
        }
    }

    /// Adds a stream whose ID is not there yet.
    @discardableResult
    mutating func insert(_ stream: consuming Stream, id: StreamID) -> Index {
        assert(search(id) == nil, "stream \(id.rawValue) is there already")
        last = slots.count
        slots.append(Slot(id: id, stream: stream))
        if slots.count > Self.fewest {
            if table.isEmpty {
                for slot in slots.indices { table.insert(slots[slot].id, slot) }
            } else {
                table.insert(id, last)
            }
        }
        return Index(slot: last)
    }

    /// Removes a stream; indexes are void afterwards.
    mutating func remove(_ index: Index) {
        let id = slots[index.slot].id
        // The newest one fills the hole.
        let end = slots.removeLast()
        let isMoved = index.slot < slots.count
        if slots.count > Self.fewest {
            table.remove(id)
            if isMoved { table.move(end.id, to: index.slot) }
        } else if !table.isEmpty {
            table.removeAll()
        }
        if isMoved { slots[index.slot] = end }
    }
}

/// Where streams are, by their IDs: sorted, and cheap to change at both ends.
private struct SlotTable: Sendable {
    private struct Place: Sendable {
        var id: UInt64
        var slot: Int
    }

    private var places: [Place] = []
    /// The places before this one are done with.
    private var head = 0
    /// Streams at the front that are looked at one by one: the oldest that ends soon has one or two before it that stay.
    private static var front: Int { 3 }

    var isEmpty: Bool { head == places.count }

    func slot(of id: StreamID) -> Int? {
        let index = firstIndex(from: id.rawValue)
        return index < places.count && places[index].id == id.rawValue ? places[index].slot : nil
    }

    mutating func insert(_ id: StreamID, _ slot: Int) {
        let place = Place(id: id.rawValue, slot: slot)
        if let last = places.last, last.id > id.rawValue {
            places.insert(place, at: firstIndex(from: id.rawValue))
        } else {
            places.append(place)
        }
    }

    /// The stream, which is there, lies elsewhere now.
    mutating func move(_ id: StreamID, to slot: Int) { places[firstIndex(from: id.rawValue)].slot = slot }

    /// Removes a stream, which is there.
    mutating func remove(_ id: StreamID) {
        let index = firstIndex(from: id.rawValue)
        guard index - head < Self.front else {
            places.remove(at: index)
            return
        }
        for place in stride(from: index, to: head, by: -1) { places[place] = places[place - 1] }
        head += 1
        if head >= 64, head >= places.count / 2 {
            places.removeFirst(head)
            head = 0
        }
    }

    mutating func removeAll() {
        places.removeAll(keepingCapacity: true)
        head = 0
    }

    private func firstIndex(from id: UInt64) -> Int {
        // Nearly always one of the first, the last, or beyond it.
        guard head < places.count, places[places.count - 1].id >= id else { return places.count }
        for place in head..<min(head + Self.front, places.count) where places[place].id >= id { return place }
        // Streams of one kind are opened in a row, so that each is most often as far from the last as its number says.
        let back = (places[places.count - 1].id - id) / 4
        if back < UInt64(places.count - head), places[places.count - 1 - Int(back)].id == id {
            return places.count - 1 - Int(back)
        }
        return (head..<places.count).partitionPoint { places[$0].id < id }
    }
}
