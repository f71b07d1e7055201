/// A queue in a circular array whose size is a power of two. Once it has grown to what its use needs, it allocates no
/// more.
struct RingQueue<Element: Sendable>: Sendable {
    private var storage: [Element] = []
    private var head = 0
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }
    var first: Element? { count == 0 ? nil : storage[head] }

    subscript(index: Int) -> Element {
        get { storage[slot(index)] }
        set { storage[slot(index)] = newValue }
    }

    mutating func append(_ element: Element) {
        if count == storage.count { grow(filler: element) }
        storage[(head + count) & (storage.count - 1)] = element
        count += 1
    }

    /// For places near the end.
    mutating func insert(_ element: Element, at index: Int) {
        append(element)
        for place in stride(from: count - 1, to: index, by: -1) { self[place] = self[place - 1] }
        self[index] = element
    }

    mutating func removeFirst(_ number: Int = 1) {
        precondition(number >= 0 && number <= count)
        head = storage.isEmpty ? 0 : (head + number) & (storage.count - 1)
        count -= number
    }

    /// Empties it and gives its memory back.
    mutating func removeAll() { self = RingQueue() }

    private func slot(_ index: Int) -> Int {
        precondition(index >= 0 && index < count)
        return (head + index) & (storage.count - 1)
    }

    private mutating func grow(filler: Element) {
        var larger = [Element](repeating: filler, count: max(4, storage.count * 2))
        for index in 0..<count { larger[index] = self[index] }
        storage = larger
        head = 0
    }
}
