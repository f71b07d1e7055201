import Objects

/// Puts the parts of objects in order, which flow and connection bring as they come. A part waits only for those before it of its
/// own object. A pure value.
struct PartOrder {
    /// What comes of a part.
    enum Step: Equatable {
        /// The first part of an object is there: what the header says of it.
        case opened(PartHeader)
        case data(object: UInt64, ArraySlice<UInt8>, via: Via)
        case finished(object: UInt64)
        /// Too much would wait for parts before it.
        case gaveUp(object: UInt64)
    }

    private struct Reading {
        var next: UInt64 = 0
        var count: UInt64?
        var held: [UInt64: (body: ArraySlice<UInt8>, via: Via)] = [:]
        var octets = 0
        /// It was given up, and is remembered until all of its parts have come.
        var isOver = false
    }

    /// Octets that may wait.
    let limit: Int
    private(set) var heldOctets = 0
    private var readings: [UInt64: Reading] = [:]

    init(limit: Int = 64 << 20) { self.limit = limit }

    /// Objects that have begun and not ended.
    var openObjects: [UInt64] { readings.filter { !$0.value.isOver }.keys.sorted() }

    mutating func take(_ part: ReceivedPart, via: Via) -> [Step] {
        let object = part.header.object
        var steps: [Step] = []
        var reading = readings.removeValue(forKey: object) ?? Reading()
        reading.count = part.header.count ?? reading.count
        if reading.isOver {
            if !part.completes { readings[object] = reading }
            return []
        }
        if part.header.index == reading.next {
            if reading.next == 0 { steps.append(.opened(part.header)) }
            steps.append(.data(object: object, part.body, via: via))
            reading.next += 1
            while let held = reading.held.removeValue(forKey: reading.next) {
                reading.octets -= held.body.count
                heldOctets -= held.body.count
                steps.append(.data(object: object, held.body, via: held.via))
                reading.next += 1
            }
        } else if heldOctets + part.body.count <= limit {
            reading.held[part.header.index] = (part.body, via)
            reading.octets += part.body.count
            heldOctets += part.body.count
        } else {
            heldOctets -= reading.octets
            reading = Reading(next: reading.next, count: reading.count, isOver: true)
            steps.append(.gaveUp(object: object))
        }
        if reading.next == reading.count {
            steps.append(.finished(object: object))
        } else if !(reading.isOver && part.completes) {
            readings[object] = reading
        }
        return steps
    }

    /// The object will not be whole: whether it had begun and not ended.
    mutating func failed(_ object: UInt64) -> Bool {
        guard let reading = readings.removeValue(forKey: object) else { return false }
        heldOctets -= reading.octets
        return !reading.isOver && reading.next > 0
    }
}
