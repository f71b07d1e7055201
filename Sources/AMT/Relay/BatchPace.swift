import Wire

/// Whether packets are to gather before the next look at them.
///
/// A relay that keeps up finds a few packets at a time, and a turn costs more than they do. When turns follow each other
/// closely it therefore looks a little later, as network cards do: more come at once, for a fraction of the work.
struct BatchPace: Sendable {
    /// A batch this large is worth its turn.
    static let goodBatch = 24
    /// How long is waited for more, once small batches follow each other within `closeness`.
    static let pause = Duration.microseconds(60)
    static let closeness = Duration.microseconds(150)
    /// Small batches in close order before the first pause: what comes now and then is passed on at once.
    static let patience = 8

    /// When the last batch was over, and the pause after it.
    private var last = Instant(nanoseconds: .min / 2)
    private var closeBatches = 0

    /// A batch of `count` packets is over: until when to wait for more, if at all.
    mutating func ended(_ count: Int, at now: Instant) -> Instant? {
        let isClose = now - last < Self.closeness
        last = now
        if !isClose { closeBatches = 0 }
        guard isClose, count < Self.goodBatch else { return nil }
        closeBatches += 1
        guard closeBatches > Self.patience else { return nil }
        last = now + Self.pause
        return last
    }
}
