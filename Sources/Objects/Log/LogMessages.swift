import Wire

/// A message of a distributed log (docs/scaling.md, "Messages").
public struct LoggedMessage: Sendable {
    /// Its number in the log, from 1 on.
    public var sequence: UInt64
    /// When the log took it.
    public var time: WallTime
    /// `Flexicast-Name`.
    public var name: String?
    /// `Content-Type`.
    public var mediaType: String?
    /// `Flexicast-Part`.
    public var part: String?
    /// `Flexicast-Length`.
    public var length: String?
    /// The octets of the object, or of its part.
    public var body: [UInt8]

    /// One without headers is an object without a name.
    public init(
        sequence: UInt64, time: WallTime, name: String? = nil, mediaType: String? = nil, part: String? = nil,
        length: String? = nil, body: [UInt8]
    ) {
        self.sequence = sequence
        self.time = time
        self.name = name
        self.mediaType = mediaType
        self.part = part
        self.length = length
        self.body = body
    }
}

/// Makes parts of a distributed log's messages. Whoever reads the same messages makes the same parts of them, from wherever
/// it begins: but for the object in whose middle that is.
public struct MessageReader: Sendable {
    /// The number of the next message.
    public private(set) var next: UInt64
    /// Messages that were no object, or a part of none.
    public private(set) var refused: UInt64 = 0
    /// Why the latest of them was refused; nil when none was.
    public private(set) var lastRefusal: String?
    /// Numbers that were lost.
    public private(set) var lost: UInt64 = 0
    /// Header of the part before, when its object has more.
    private var before: PartHeader?

    /// - Parameter next: the first message that is read.
    public init(from next: UInt64) { self.next = next }

    /// Whether the next message belongs to an object that has begun.
    public var isInObject: Bool { before != nil }

    /// What the log has under the next numbers, up to that of this message. Nothing for one that was read before.
    public mutating func read(_ message: LoggedMessage) -> [FollowedEntry] {
        guard message.sequence >= next, message.sequence < ObjectLimits.sequences else { return [] }
        var entries: [FollowedEntry] = []
        if let loss = skip(to: message.sequence) { entries.append(loss) }
        next = message.sequence + 1
        let previous = before
        before = nil
        do throws(Refusal) {
            let part = try Self.part(message, after: previous)
            if part.header.count.map({ $0 > part.header.index + 1 }) ?? true { before = part.header }
            entries.append(.part(part))
        } catch {
            refused += 1
            lastRefusal = "message \(message.sequence) \(error.reason)"
            entries.append(.void(message.sequence..<next))
        }
        return entries
    }

    /// All messages below `sequence` are gone; nil when they were read.
    public mutating func skip(to sequence: UInt64) -> FollowedEntry? {
        guard sequence > next else { return nil }
        defer { next = sequence }
        before = nil
        lost += sequence - next
        return .lost(next..<sequence)
    }

    private struct Refusal: Error { var reason: String }

    private static func part(_ message: LoggedMessage, after before: PartHeader?) throws(Refusal) -> Part {
        let (index, count) = try place(message.part)
        let length = try message.length.map { (text) throws(Refusal) in
            guard let length = UInt64(text) else {
                throw Refusal(reason: "has no number of octets in Flexicast-Length")
            }
            return length
        }
        var header = PartHeader(
            sequence: message.sequence, index: index, count: count, length: length, published: message.time,
            mediaType: message.mediaType ?? "", name: message.name ?? "")
        if count == 1 { header.length = UInt64(message.body.count) }
        if index > 0 {
            // All of an object's parts say what its first says.
            guard let before, before.index + 1 == index, before.sequence + 1 == message.sequence else {
                throw Refusal(reason: "is part \(index + 1) of an object, and does not follow the part before")
            }
            (header.name, header.mediaType, header.published) = (before.name, before.mediaType, before.published)
            if let count, let known = before.count, count != known {
                throw Refusal(reason: "is of an object of \(count) parts, and those before of \(known)")
            }
            header.length = before.length
        }
        do { return try Part(header, body: message.body) } catch { throw Refusal(reason: "is no object: \(error)") }
    }

    /// `2/5`: the second of five.
    private static func place(_ text: String?) throws(Refusal) -> (index: UInt64, count: UInt64?) {
        guard let text else { return (0, 1) }
        let numbers = text.split(separator: "/", omittingEmptySubsequences: false).map { UInt64($0) }
        guard numbers.count == 2, let part = numbers[0], let count = numbers[1], part >= 1, part <= count,
            count <= ObjectLimits.sequences
        else { throw Refusal(reason: "has a Flexicast-Part that is not like 2/5") }
        return (part - 1, count)
    }
}
