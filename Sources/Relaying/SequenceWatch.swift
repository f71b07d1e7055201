import Wire

/// Follows the sequence numbers of RTP packets (RFC 3550 section 5.1), each sender's on their own.
struct SequenceWatch {
    private struct Sender {
        var first: Int
        var highest: Int
        var count = 0
        var reordered = 0
        var lost: Int { max(0, highest - first + 1 - count) }
    }

    /// More senders in one channel than this are not followed.
    static let senderLimit = 16
    private var senders: [UInt32: Sender] = [:]
    private var others = 0

    /// Looks at a payload that came.
    mutating func take(_ payload: Span<UInt8>) {
        var reader = ByteReader(payload)
        guard let first = reader.uint8(), first >> 6 == 2, reader.skip(1), let number = reader.uint16(), reader.skip(4),
            let identifier = reader.uint32()
        else {
            others += 1
            return
        }
        guard var sender = senders[identifier] else {
            if senders.count < Self.senderLimit {
                senders[identifier] = Sender(first: Int(number), highest: Int(number), count: 1)
            }
            return
        }
        // The number wraps at 16 bits: it is the one nearest to the highest so far.
        let step = Int(Int16(truncatingIfNeeded: Int(number) - sender.highest))
        if step > 0 { sender.highest += step } else { sender.reordered += 1 }
        sender.first = min(sender.first, sender.highest + min(0, step))
        sender.count += 1
        senders[identifier] = sender
    }

    /// What was found; nil when the payloads are no RTP: what is random seldom has as many packets of a sender.
    var result: (lost: Int, reordered: Int)? {
        let followed = senders.values.filter { $0.count >= 4 && $0.lost < 1000 + $0.count }
        let total = followed.reduce(0) { $0 + $1.count }
        guard total > 0, total * 2 > others + senders.values.reduce(0, { $0 + $1.count }) else { return nil }
        return (followed.reduce(0) { $0 + $1.lost }, followed.reduce(0) { $0 + $1.reordered })
    }
}
