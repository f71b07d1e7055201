/// What a connection could send at once if it were asked for more, so that whoever has much to send hands it over piece
/// by piece and the rest costs the connection nothing.
public struct SendRoom: Sendable, Equatable {
    /// Octets that the congestion window has room for, less those that wait already (RFC 9002 section 7). It may be negative.
    public var octets: Int
    /// Octets that the peer's MAX_DATA allows, less those that wait (RFC 9000 section 4.1).
    public var credit: UInt64
    /// Unidirectional streams that the peer's MAX_STREAMS allows, less those that wait (RFC 9000 section 4.6).
    public var streams: UInt64
    /// Octets of a new unidirectional stream that the peer allows before it is heard of again.
    public var streamWindow: UInt64
    /// Streams of which something is still to be sent or acknowledged.
    public var openStreams: Int

    /// What the peer and the path leave now. The units are those of the fields.
    public init(octets: Int, credit: UInt64, streams: UInt64, streamWindow: UInt64, openStreams: Int) {
        self.octets = octets
        self.credit = credit
        self.streams = streams
        self.streamWindow = streamWindow
        self.openStreams = openStreams
    }
}

extension StreamTable {
    /// Octets and streams that wait to be sent for the first time, and octets that wait to be sent again.
    var waiting: (fresh: UInt64, streams: UInt64, again: UInt64) {
        var fresh: UInt64 = 0
        var streams: UInt64 = 0
        var again: UInt64 = 0
        for queue in [freshQueue, creditQueue] {
            for index in 0..<queue.count {
                guard let at = sending.index(of: queue[index]) else { continue }
                fresh += sending[at].fresh.octetCount
                if sending[at].owesStreamCredit { streams += 1 }
            }
        }
        for index in 0..<againQueue.count {
            guard let at = sending.index(of: againQueue[index]) else { continue }
            again += sending[at].again.octetCount
        }
        return (fresh, streams, again)
    }
}

extension Connection {
    /// What more could be sent at once if it were asked for.
    public var sendRoom: SendRoom {
        let waiting = streams.waiting
        return SendRoom(
            octets: recovery.windowRoom - Int(clamping: waiting.fresh) - Int(clamping: waiting.again),
            credit: streams.sendCredit - min(waiting.fresh, streams.sendCredit),
            streams: streams.streamCredit - min(waiting.streams, streams.streamCredit),
            streamWindow: peerParameters?.initialMaxStreamDataUni ?? 0, openStreams: streams.openSendCount)
    }
}
