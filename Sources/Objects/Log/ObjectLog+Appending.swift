import Wire

/// An object whose parts come one by one.
struct OpenObject: Sendable {
    var name: String
    var mediaType: String
    var declaredLength: UInt64?
    var published: WallTime
    /// The end of its lifetime; nil when there is none.
    var end: Instant?
    var first: UInt64
    var parts: UInt64 = 0
    /// Of the bodies.
    var octets: UInt64 = 0
}

extension ObjectLog {
    /// Publishes an object that is all there, and forgets what retention no longer keeps. Returns its sequence numbers.
    /// When it throws, nothing was published.
    /// `end`: from then on the object is worth nothing, see `endLifetime`. One with an end is not kept by the store.
    /// `take`: is handed each part in order, where it is, so that who sends it on has not to look it up.
    @discardableResult
    public mutating func append(
        name: String = "", mediaType: String = "", body: [UInt8], published: WallTime, until end: Instant? = nil,
        take: (borrowing Part) -> Void = { _ in }
    ) throws(LogError) -> Range<UInt64> {
        guard open == nil else { throw .objectIsOpen }
        let size = ObjectLimits.partOctets
        let count = max(1, body.count / size + (body.count % size == 0 ? 0 : 1))
        if let limit = retention.octets, body.count > limit { throw .tooLarge(octets: body.count, limit: limit) }
        let first = try numbers(UInt64(count))
        // Parts differ in their numbers alone: when the last can be made all can, and none has a longer prelude.
        let last = try part(count - 1, of: count, from: first, name, mediaType, body, published)
        if let limit = retention.octets, last.preludeLength * count > limit - body.count {
            throw .tooLarge(octets: body.count + last.preludeLength * count, limit: limit)
        }
        next = first + UInt64(count)
        for index in 0..<(count - 1) {
            let part = try part(index, of: count, from: first, name, mediaType, body, published)
            take(part)
            publish(consume part, isStored: end == nil)
        }
        take(last)
        publish(consume last, isStored: end == nil)
        objectCount += 1
        if let end { note(end, of: first) }
        statistics.objectsAppended += 1
        applyRetention(at: nil)
        return first..<(first + UInt64(count))
    }

    /// A part of an object that is all there.
    private func part(
        _ index: Int, of count: Int, from first: UInt64, _ name: String, _ mediaType: String, _ body: [UInt8],
        _ published: WallTime
    ) throws(LogError) -> Part {
        let size = ObjectLimits.partOctets
        return try make(
            PartHeader(
                sequence: first + UInt64(index), index: UInt64(index), count: UInt64(count),
                length: UInt64(body.count), published: published, mediaType: mediaType, name: name),
            body[(index * size)..<min((index + 1) * size, body.count)])
    }

    /// Begins an object whose parts come one by one: `append(part:)` for each but the last, then `finish`. `length` is that
    /// of the whole object in octets, when it is known. Returns the number of its first part.
    ///
    /// `end` is as for an object that is all there.
    /// It may be longer than what the log keeps: then its first parts are forgotten before its last ones come.
    @discardableResult
    public mutating func begin(
        name: String = "", mediaType: String = "", length: UInt64? = nil, published: WallTime,
        until end: Instant? = nil
    ) throws(LogError) -> UInt64 {
        guard open == nil else { throw .objectIsOpen }
        let first = try numbers(1)
        let header = PartHeader(
            sequence: first, count: nil, length: length, published: published, mediaType: mediaType, name: name)
        do {
            try header.check()
        } catch {
            throw .malformed(error)
        }
        open = OpenObject(
            name: name, mediaType: mediaType, declaredLength: length, published: published, end: end,
            first: first)
        return first
    }

    /// Publishes the next part of the object that has begun, at most `ObjectLimits.partOctets`. Returns its number. When it
    /// throws, the part was not published; the object is still open.
    /// - Parameter take: is handed the part where it is.
    @discardableResult
    public mutating func append(
        part body: [UInt8], take: (borrowing Part) -> Void = { _ in }
    ) throws(LogError) -> UInt64 {
        try add(body, isLast: false, take: take)
    }

    /// Publishes the last part of the object, which may be empty, and with it how many parts and octets it has. Returns the
    /// object's numbers. When it throws, the object is still open.
    /// - Parameter take: is handed the part where it is.
    @discardableResult
    public mutating func finish(
        _ body: [UInt8] = [], take: (borrowing Part) -> Void = { _ in }
    ) throws(LogError) -> Range<UInt64> {
        let last = try add(body, isLast: true, take: take)
        let first = open?.first ?? last
        if let end = open?.end { note(end, of: first) }
        open = nil
        objectCount += 1
        statistics.objectsAppended += 1
        applyRetention(at: nil)
        return first..<(last + 1)
    }

    /// Gives the object up that has begun: its numbers are void. Returns what those who read it already must be told of; nil
    /// when no part of it was published.
    public mutating func abandon() -> Gap? {
        guard let object = open else { return nil }
        open = nil
        statistics.objectsAbandoned += 1
        guard object.parts > 0 else { return nil }
        // Its first ones may be forgotten.
        let places = places(of: object.first)
        remove(places)
        return Gap(first: object.first, count: object.parts, reason: .void)
    }

    private mutating func add(
        _ body: [UInt8], isLast: Bool, take: (borrowing Part) -> Void
    ) throws(LogError) -> UInt64 {
        guard var object = open else { throw .noObjectOpen }
        let octets = object.octets + UInt64(body.count)
        if let declared = object.declaredLength, isLast ? octets != declared : octets > declared {
            throw .lengthMismatch(declared: declared, actual: octets)
        }
        let number = try numbers(1)
        guard number == object.first + object.parts else {
            throw .store("the object's numbers would not be in a row; abandon it and begin again")
        }
        let part = try make(
            PartHeader(
                sequence: number, index: object.parts, count: isLast ? object.parts + 1 : nil,
                length: isLast ? octets : object.declaredLength, published: object.published,
                mediaType: object.mediaType, name: object.name), body[...])
        object.parts += 1
        object.octets = octets
        open = object
        next = number + 1
        take(part)
        publish(part, isStored: object.end == nil)
        if !isLast { applyRetention(at: nil) }
        return number
    }

    private func make(_ header: consuming PartHeader, _ body: consuming ArraySlice<UInt8>) throws(LogError) -> Part {
        do {
            return try Part(header, body: body)
        } catch {
            throw .malformed(error)
        }
    }

    /// The first of `count` numbers in a row that are reserved and not used: the live edge, which moves on when they are.
    private mutating func numbers(_ count: UInt64) throws(LogError) -> UInt64 {
        if count <= reserved - next { return next }
        let missing = count - (reserved - next)
        guard reserved <= ObjectLimits.sequences - missing else { throw .numbersExhausted }
        let block = min(max(missing, Self.blockSize), ObjectLimits.sequences - reserved)
        let first = try reserve(block)
        if first == reserved {
            reserved += block
            return next
        }
        // Another log has the numbers between. What is left of the old block stays void, for numbers only ascend.
        statistics.numbersLeftOut += reserved - next
        next = first
        reserved = first + block
        if count <= block { return next }
        let more = count - block
        guard reserved <= ObjectLimits.sequences - more else { throw .numbersExhausted }
        guard try reserve(more) == reserved else { throw .store("it gives no \(count) numbers in a row; try again") }
        reserved += more
        return next
    }

    private mutating func reserve(_ count: UInt64) throws(LogError) -> UInt64 {
        let first: UInt64
        do {
            first = try store.reserve(count)
        } catch {
            throw .store(error.reason)
        }
        guard first >= reserved, first <= ObjectLimits.sequences - count else {
            throw .store("it reserved \(first), and all below \(reserved) was reserved before")
        }
        return first
    }

    private mutating func publish(_ part: consuming Part, isStored: Bool) {
        statistics.partsAppended += 1
        var isKept = false
        do {
            if isStored {
                try store.append(part)
                isKept = true
            }
        } catch {
            // The flow goes on: after a restart the part is void.
            statistics.storeFailures += 1
        }
        if !isKept, memory != nil { noteUnstored(part.sequence) }
        keep(part)
    }
}
