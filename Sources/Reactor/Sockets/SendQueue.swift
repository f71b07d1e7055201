import CShims
import Glibc
import Wire

/// The datagrams a socket has yet to send. They are written straight into an arena of chunks and described by runs:
/// neighbours of equal size to one destination, which leave as one segmented send. A chunk is used again as soon as nothing
/// queued lies in it, the one used last first, while it is still in the cache.
///
/// All that `withSendBuffer` and `enqueue` touch for a datagram is in here, so that each is one access to its socket.
@safe struct SendQueue: ~Copyable {
    /// Four segmented sends make the best batch (measured; more would leave the second-level cache).
    static let chunkSize = 1 << 18
    /// Runs that may wait; a run to a destination of its own may hold a single datagram.
    static let runLimit = 1024
    /// Datagrams of one run. The kernel takes 128, older ones 64.
    static let segmentLimit = 64
    /// Octets of one run: with all headers it stays below 64 KiB, past which the kernel segments in software.
    static let runOctets = 65_400
    /// The largest UDP payload over IPv4.
    static let datagramLimit = 65_507

    /// False once the socket is closed: there is no room then.
    var isOpen = true
    /// Whether the reactor has the socket on its list of those to flush.
    var isDirty = false
    private let scope: UInt32
    private let segmenting: Bool
    private var memory = SegmentationMemory()

    private let arena: UnsafeMutablePointer<UInt8>
    private let runs: UnsafeMutablePointer<fcio_run>
    private var head = 0
    private var tail = 0
    /// Datagrams of the first run that have been sent already; only of a plain run.
    private var skip = 0

    /// Runs that lie in each chunk, and sends from it that the kernel still reads.
    private var uses: [Int]
    private var free: [Int]
    private var chunk: Int
    private var offset = 0
    /// Size of the room last handed out and not yet enqueued.
    private var reserved = 0
    private(set) var queuedOctets = 0

    /// What was enqueued last lies before `offset`; it stays there until room is reserved again.
    private var last = (count: 0, segment: 0)

    /// What the last run was opened with, while it can still grow.
    private var open: (to: SocketAddress, from: IPAddress?, ecn: ECN)?

    /// - Parameters:
    ///   - scope: The interface that link-local IPv6 destinations lie on.
    ///   - segmenting: Whether runs may leave as segmented sends.
    init(arena octets: Int, scope: UInt32, segmenting: Bool) {
        self.scope = scope
        self.segmenting = segmenting
        let chunks = max(2, (octets + Self.chunkSize - 1) / Self.chunkSize)
        // Pages of their own, which the kernel clears when they are first written: what is never used costs nothing,
        // nothing of this process's past can leave by it, and what the kernel still reads is nobody else's afterwards.
        guard let memory = unsafe fcio_arena_create(chunks * Self.chunkSize) else {
            preconditionFailure("no memory to send from")
        }
        unsafe arena = unsafe memory
        unsafe runs = .allocate(capacity: Self.runLimit)
        uses = [Int](repeating: 0, count: chunks)
        free = Array((1..<chunks).reversed())
        chunk = 0
    }

    deinit {
        unsafe fcio_arena_destroy(arena, uses.count * Self.chunkSize)
        unsafe runs.deallocate()
    }

    var isEmpty: Bool { head == tail }
    var runCount: Int { tail - head }
    var hasRunSlot: Bool { runCount < Self.runLimit }

    /// Room for `count` octets, the same until something is enqueued; nil when the queue is full, or when it would begin
    /// another chunk while anything waits. `pastBatch` lifts the latter.
    mutating func reserve(_ count: Int, pastBatch: Bool) -> UnsafeMutablePointer<UInt8>? {
        precondition(count >= 0 && count <= Self.chunkSize, "room of \(count) octets")
        guard isOpen, hasRunSlot else { return nil }
        last = (0, 0)
        if isEmpty, uses[chunk] == 0 { offset = 0 }
        if Self.chunkSize - offset < count {
            if uses[chunk] != 0 {
                guard pastBatch || isEmpty else { return nil }
                guard let next = free.popLast() else { return nil }
                chunk = next
            }
            offset = 0
            open = nil
        }
        reserved = count
        return unsafe arena + (chunk * Self.chunkSize + offset)
    }

    /// What the socket has to do after `enqueue`.
    enum Enqueued {
        case nothing
        /// Put itself on the reactor's list.
        case markDirty
        /// Flush: no further run fits.
        case flush
        /// Count: there was no slot for all of it, and the rest is gone.
        case dropped
    }

    /// Queues the first `count` octets of the room last reserved as datagrams of `segment` octets, the last possibly
    /// shorter; called again, the octets that follow.
    mutating func enqueue(
        _ count: Int, segment: Int, to: SocketAddress, from: IPAddress?, ecn: ECN
    ) -> Enqueued {
        guard isOpen else { return .nothing }
        precondition(count <= reserved, "\(count) octets enqueued of \(reserved) reserved")
        precondition(segment > 0 || count == 0, "datagrams of no octets in \(count)")
        reserved -= count
        last = (count, segment)
        if grow(count, segment: segment, to: to, from: from, ecn: ecn) { return .nothing }
        offset += count
        return append(from: offset - count, count, segment: segment, to: to, from: from, ecn: ecn)
    }

    /// Queues what was enqueued last once more, for another destination, where it lies: no octet is copied. Nothing may
    /// have been reserved since.
    mutating func enqueueAgain(to: SocketAddress, from: IPAddress?, ecn: ECN) -> Enqueued {
        guard isOpen, last.count > 0 else { return .nothing }
        let done = append(from: offset - last.count, last.count, segment: last.segment, to: to, from: from, ecn: ecn)
        // What comes next lies behind the octets of another run.
        open = nil
        return done
    }

    /// Describes `count` octets of the current chunk as runs.
    private mutating func append(
        from start: Int, _ count: Int, segment: Int, to: SocketAddress, from: IPAddress?, ecn: ECN
    ) -> Enqueued {
        var start = start
        let plain = !segmenting || isRefused(to.address, segment: segment)
        var left = count
        repeat {
            guard makeRunSlot() else { return .dropped }
            let (segments, size) = Self.share(of: left, segment: segment)
            let run = unsafe fcio_run(
                octets: arena + (chunk * Self.chunkSize + start), count: UInt32(size),
                segment: UInt16(segments == 1 ? size : segment), segments: UInt16(segments), chunk: UInt16(chunk),
                ecn: ecn.rawValue, plain: plain, held: false,
                to: fcio_address(to.address, port: to.port, scope: scope),
                from: Self.origin(from, scope: scope))
            unsafe (runs + tail).initialize(to: run)
            tail += 1
            uses[chunk] += 1
            start += size
            queuedOctets += size
            left -= size
            // A run whose last datagram is short has ended; an empty datagram is a run of its own.
            open = size > 0 && (segments == 1 || size == segments * segment) ? (to, from, ecn) : nil
        } while left > 0
        if !isDirty {
            isDirty = true
            return .markDirty
        }
        return hasRunSlot ? .nothing : .flush
    }

    /// How many datagrams, and how many of `count` octets, one run takes.
    private static func share(of count: Int, segment: Int) -> (segments: Int, octets: Int) {
        guard count > segment else { return (1, count) }
        if count <= runOctets, count <= segmentLimit * segment { return ((count + segment - 1) / segment, count) }
        let segments = segments(of: segment)
        return (segments, min(count, segments * segment))
    }

    /// How many datagrams of `size` octets one run takes.
    static func segments(of size: Int) -> Int { min(segmentLimit, max(1, runOctets / size)) }

    private mutating func isRefused(_ address: IPAddress, segment: Int) -> Bool {
        if memory.isEmpty { return false }
        return memory.refuses(address, segment: segment, now: Reactor.clock())
    }

    /// Adds to the last run, if the datagrams fit it in every way.
    private mutating func grow(_ count: Int, segment: Int, to: SocketAddress, from: IPAddress?, ecn: ECN) -> Bool {
        guard let open, count > 0, open.to == to, open.ecn == ecn, open.from == from else { return false }
        let run = unsafe runs + (tail - 1)
        let size = unsafe Int(run.pointee.segment)
        let added = (count + segment - 1) / segment
        let fits = added == 1 ? count <= size : segment == size
        guard fits, unsafe Int(run.pointee.segments) + added <= Self.segmentLimit,
            unsafe Int(run.pointee.count) + count <= Self.runOctets
        else { return false }
        unsafe run.pointee.count += UInt32(count)
        unsafe run.pointee.segments += UInt16(added)
        offset += count
        queuedOctets += count
        if count % size != 0 { self.open = nil }
        return true
    }

    /// A multicast or unspecified address cannot be sent from: the kernel chooses.
    private static func origin(_ from: IPAddress?, scope: UInt32) -> fcio_address {
        guard let from, !from.isMulticast, !from.isUnspecified else { return fcio_address() }
        return fcio_address(from, scope: scope)
    }

    private mutating func makeRunSlot() -> Bool {
        guard hasRunSlot else { return false }
        if tail == Self.runLimit {
            let waiting = runCount
            unsafe runs.update(from: runs + head, count: waiting)
            head = 0
            tail = waiting
        }
        return true
    }

    // MARK: sending

    /// Builds the next messages into `outbox`: how many.
    mutating func fill(_ outbox: OpaquePointer, family: Int32) -> UInt32 {
        open = nil
        return unsafe fcio_outbox_fill(outbox, family, runs + head, UInt32(runCount), UInt32(skip))
    }

    /// Where the first message goes, and its first octets, at most 64.
    var first: (to: SocketAddress, octets: [UInt8])? {
        guard !isEmpty else { return nil }
        let run = unsafe runs[head]
        let offset = unsafe skip * Int(run.segment)
        let count = unsafe min(64, Int(run.count) - offset)
        let octets = unsafe [UInt8](UnsafeBufferPointer(start: run.octets + offset, count: count))
        return (SocketAddress(unsafe run.to), octets)
    }

    /// One message of the first run is done, sent or given up: how many datagrams and octets it had.
    mutating func advance() -> (datagrams: Int, octets: Int) {
        let run = unsafe runs[head]
        let segments = unsafe Int(run.segments)
        let size = unsafe Int(run.segment)
        let total = unsafe Int(run.count)
        var done = (datagrams: segments, octets: total)
        if unsafe run.plain && segments > 1 {
            done = (1, min(size, total - skip * size))
            skip += 1
        } else {
            skip = segments
        }
        queuedOctets -= done.octets
        if skip == segments {
            skip = 0
            head += 1
            finish(unsafe Int(run.chunk))
        }
        return done
    }

    /// So many messages are done: how many datagrams and octets they had.
    mutating func advance(messages: Int) -> (datagrams: Int, octets: Int) {
        var total = (datagrams: 0, octets: 0)
        for _ in 0..<messages {
            let done = advance()
            total.datagrams += done.datagrams
            total.octets += done.octets
        }
        return total
    }

    private mutating func finish(_ done: Int) {
        giveBack(done)
        guard isEmpty else { return }
        head = 0
        tail = 0
    }

    /// A run that lies in this chunk is done with, or a send from it is read no more.
    mutating func giveBack(_ done: Int) {
        uses[done] -= 1
        if uses[done] == 0, done != chunk { free.append(done) }
    }

    // MARK: sending without a copy

    /// The arena, to register it.
    var room: (start: UnsafeMutablePointer<UInt8>, octets: Int) {
        unsafe (arena, uses.count * Self.chunkSize)
    }

    /// The runs to send.
    var next: UnsafeMutablePointer<fcio_run> { unsafe runs + head }

    /// Chunks of those of the first runs that the kernel now reads stay as they are until `giveBack`, whatever becomes of
    /// the runs: they may be sent again another way.
    mutating func hold(first count: Int) {
        for index in head..<(head + count) where unsafe runs[index].held {
            unsafe runs[index].held = false
            uses[unsafe Int(runs[index].chunk)] += 1
        }
    }

    /// What comes next is not part of the last run: that is about to be sent.
    mutating func endRun() { open = nil }

    /// Octets of the first messages; a plain run counts as one.
    func octets(first messages: Int) -> Int {
        (head..<(head + min(messages, runCount))).reduce(0) { unsafe $0 + Int(runs[$1].count) }
    }

    /// How many runs at the head can go without a copy, `limit` at the most, and their octets.
    func zeroCopyPrefix(limit: Int) -> (runs: Int, octets: Int) {
        var found = (runs: 0, octets: 0)
        while found.runs < min(limit, runCount), unsafe fcio_zerocopy_takes(runs + (head + found.runs)) {
            found.octets += unsafe Int(runs[head + found.runs].count)
            found.runs += 1
        }
        return found
    }

    /// The kernel refuses to segment the first run: it goes out datagram by datagram, and so do later ones of datagrams
    /// as large. Smaller ones may fit: the first of this run may be a probe of the path. False when it is not a
    /// segmented one.
    mutating func makePlain() -> Bool {
        guard !isEmpty, unsafe runs[head].segments > 1, unsafe !runs[head].plain else { return false }
        unsafe runs[head].plain = true
        memory.remember(
            unsafe IPAddress(runs[head].to), segment: unsafe Int(runs[head].segment), now: Reactor.clock())
        return true
    }

    /// Gives up everything queued.
    mutating func removeAll() {
        while !isEmpty { _ = advance() }
    }
}

/// Where segmented sends were refused, so that each run does not have to find out anew. Bounded; an entry ends after a
/// minute, since routes and interfaces change.
struct SegmentationMemory {
    static let limit = 64
    static let lifetime = Duration.seconds(60)

    private var refused: [(to: IPAddress, segment: Int, until: Instant)] = []
    private var next = 0

    var isEmpty: Bool { refused.isEmpty }

    /// Whether datagrams of `segment` octets to `address` had better go one by one.
    mutating func refuses(_ address: IPAddress, segment: Int, now: Instant) -> Bool {
        guard let index = refused.firstIndex(where: { $0.to == address }) else { return false }
        if refused[index].until <= now {
            refused.remove(at: index)
            return false
        }
        return segment >= refused[index].segment
    }

    /// Segments of `segment` octets and larger were refused on the way to `address`.
    mutating func remember(_ address: IPAddress, segment: Int, now: Instant) {
        let entry = (address, segment, now + Self.lifetime)
        if let index = refused.firstIndex(where: { $0.to == address }) {
            if segment <= refused[index].segment || refused[index].until <= now { refused[index] = entry }
        } else if refused.count < Self.limit {
            refused.append(entry)
        } else {
            refused[next % Self.limit] = entry
            next += 1
        }
    }
}
