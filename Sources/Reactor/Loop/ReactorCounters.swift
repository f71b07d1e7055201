/// What a reactor has done since it was made. Plain totals: subtract two readings to get an interval.
public struct ReactorCounters: Sendable, Equatable {
    /// Turns of the loop.
    public var turns: UInt64 = 0
    /// Turns that found nothing to do at once and slept.
    public var sleeps: UInt64 = 0
    /// Times that arrivals were left to gather.
    public var gatherings: UInt64 = 0
    /// Nanoseconds spent in turns outside of waiting.
    public var busyNanoseconds: UInt64 = 0
    /// Nanoseconds of the longest turn, waiting left out.
    public var longestTurnNanoseconds: UInt64 = 0
    /// Wake-ups by another thread: several posts may share one.
    public var wakeUps: UInt64 = 0
    /// Closures and messages that other threads posted and the reactor ran.
    public var posts: UInt64 = 0
    /// Timers whose time came.
    public var timersFired: UInt64 = 0
    /// System calls made to wait, receive and send.
    public var systemCalls: UInt64 = 0

    /// UDP datagrams handed to handlers.
    public var datagramsIn: UInt64 = 0
    /// Messages they came in: the kernel coalesces datagrams of one sender (UDP_GRO).
    public var messagesIn: UInt64 = 0
    /// UDP payload octets received.
    public var octetsIn: UInt64 = 0
    /// Batches handed to handlers.
    public var receiveBatches: UInt64 = 0
    /// Datagrams in the largest batch.
    public var longestReceiveBatch: UInt64 = 0
    /// Datagrams (or coalesced messages) that the kernel dropped because a receive buffer was full (SO_RXQ_OVFL).
    public var kernelDrops: UInt64 = 0
    /// Messages given up because they were cut short.
    public var truncated: UInt64 = 0
    /// Receive calls that failed for a reason other than an empty queue.
    public var receiveErrors: UInt64 = 0
    /// ICMP errors about datagrams of sockets that asked for them.
    public var networkErrors: UInt64 = 0

    /// UDP datagrams the kernel took.
    public var datagramsOut: UInt64 = 0
    /// Messages they went in: one message may carry a run of datagrams (UDP_SEGMENT).
    public var messagesOut: UInt64 = 0
    /// UDP payload octets sent.
    public var octetsOut: UInt64 = 0
    /// Send calls (sendmmsg or an io_uring submission).
    public var sendBatches: UInt64 = 0
    /// Messages in the largest send call.
    public var longestSendBatch: UInt64 = 0
    /// Times a send buffer was full and the rest stayed queued.
    public var sendBlocked: UInt64 = 0
    /// Times a caller found the send queue full: `withSendBuffer` gave nil, or `enqueue` dropped.
    public var sendQueueFull: UInt64 = 0
    /// Runs that segmentation offload refused and that went out datagram by datagram.
    public var segmentationFallbacks: UInt64 = 0
    /// Datagrams the kernel refused, by reason.
    public var sendErrors = SendErrors()

    /// io_uring completions lost because their queue was full.
    public var completionOverflow: UInt64 = 0

    /// All zero.
    public init() {}

    /// The kernel has taken so many messages in one call.
    mutating func sent(messages: Int, _ done: (datagrams: Int, octets: Int)) {
        sendBatches += 1
        messagesOut += UInt64(messages)
        datagramsOut += UInt64(done.datagrams)
        octetsOut += UInt64(done.octets)
        longestSendBatch = max(longestSendBatch, UInt64(messages))
    }

    /// Datagrams given up at the sending socket. None of these closes anything: the path lost a datagram.
    public struct SendErrors: Sendable, Equatable {
        /// Larger than the path or the interface takes (EMSGSIZE); what a path MTU probe may meet.
        public var tooLarge: UInt64 = 0
        /// No route, or a host or port known to be unreachable.
        public var unreachable: UInt64 = 0
        /// A firewall rule or a missing privilege (EPERM, EACCES).
        public var forbidden: UInt64 = 0
        /// No memory in the kernel or a full device queue.
        public var noBuffers: UInt64 = 0
        /// For any other reason.
        public var other: UInt64 = 0

        /// All zero.
        public init() {}

        /// Datagrams refused, for whatever reason.
        public var total: UInt64 { tooLarge + unreachable + forbidden + noBuffers + other }
    }
}
