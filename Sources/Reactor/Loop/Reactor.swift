// The Reactor: one thread that waits for the kernel and hands out what happened.
//
//     let reactor = try Reactor(io: .auto)           // io_uring where it works, else epoll
//     log.info("\(reactor.backendDescription)")
//     let socket = try reactor.udpSocket(bind: SocketAddress("0.0.0.0:4433")!, options: UDPOptions())
//     socket.handler = endpoint                      // weak: keep the endpoint
//     try reactor.onSignal(SIGTERM) { [unowned reactor] in reactor.stop() }
//     reactor.run()                                  // until stop()
//     reactor.close()                                // every descriptor, every handler
//
// A reactor and all that hangs on it belong to the thread that made it; Wakeup and Mailbox are for the others.
//
// ## A turn
//
//     wait ──> now = clock ──> datagrams, descriptors, signals, posts ──> timers ──> turn-end handlers ──> flush ──┐
//      ^                                                                                                          │
//      └───────────────────────── until the next deadline, or at once if work is left ────────────────────────────┘
//
// `now` is read once per turn. Handlers may do anything: close sockets, move timers, send, stop.
//
// ## Receiving
//
//     func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
//         for index in 0..<batch.count {
//             let source = batch.source(index), local = batch.local(index), ecn = batch.ecn(index)
//             var bytes = batch[index]               // MutableSpan<UInt8>: open the packet in place
//             connection(for: bytes.span).receive(&bytes, from: source, to: local, ecn: ecn, at: reactor.now, …)
//         }
//     }
//
// Up to 64 messages come with one call, each up to 128 datagrams that the kernel coalesced; the batch shows single
// datagrams. The octets belong to the handler until it returns and to the kernel afterwards. Take them as `var`, or
// with `batch.withBytes(index) { bytes in … }`: a `let` of a type that cannot be copied is put on the heap (Swift 6.3).
//
// ## Sending
//
//     while let datagram = socket.withSendBuffer(1500, { buffer in connection.transmit(into: &buffer, at: now) }) ?? nil {
//         socket.enqueue(datagram.count, to: datagram.to, from: datagram.from?.address, ecn: datagram.ecn)
//     }
//
// `withSendBuffer` gives room in the socket's arena; nothing is copied after that but by the kernel. `enqueue` queues
// what was written there. Datagrams that follow each other with equal destination, origin and mark, and equal size
// except for the last, become one segmented send of up to 64 datagrams and 65 400 octets; so write one connection's
// packets one after the other. A producer that writes many packets into one room enqueues them with `segment:`.
// Everything leaves at the end of the turn, at `flush()`, or when four chunks (64 KiB) of the arena are full.
//
// When the kernel's buffer is full the rest stays queued and `isWritable` is false; when the arena is full too,
// `withSendBuffer` gives nil. `socketBecameWritable` then says when to go on. A datagram that the kernel refuses (too
// large for the path, no route) is counted in `counters.sendErrors` and lost, as if the network had lost it. A run
// that the interface cannot segment goes out datagram by datagram, and so do later ones to that address for a minute.
//
// ## Timers
//
//     timer = reactor.timer { [unowned self] in timerFired() }   // keep it: a dropped timer is cancelled
//     timer.schedule(at: machine.nextDeadline)                   // again and again, without allocation
//
// ## The rest
//
// `gather(until:)` has the next turn sleep first, so that what arrives meanwhile is handled together.
// `onTurnEnd` runs once per turn before the flush: the place to let every touched connection transmit.
// `reactor.wakeup.post { reactor in … }` and `reactor.mailbox { message in … }` are the doors for other threads.
// `watch` follows pipes and standard input, `watchProcess` child processes, `onSignal` signals.
// `socket.join(group:source:interface:)` and `leave` are in Multicast.swift, `NetworkInterface.all()` lists interfaces.
// Handlers that capture the reactor strongly keep it alive until `close()`.

import CShims
import Glibc
import Wire

/// An event loop on one thread, over io_uring or epoll. See the essay at the top of this file.
@safe public final class Reactor {
    /// The time, read once per turn.
    public private(set) var now: Instant
    /// Counts since the reactor was made, over all of its sockets.
    public internal(set) var counters = ReactorCounters()

    /// The longest turn is looked for anew: what came before a measurement is not part of it.
    public func forgetLongestTurn() { counters.longestTurnNanoseconds = 0 }

    /// The door for other threads.
    public let wakeup: Wakeup
    /// One line that says which backend runs and why.
    public var backendDescription: String { backend.description }

    let backend: any Backend
    let outbox: OpaquePointer
    var timers = Timers()
    /// Sockets with something queued.
    var dirty: [UDPSocket] = []
    /// Sockets whose handlers are to be told of errors.
    var troubled: [UDPSocket] = []
    var signals: [(number: Int32, watch: FileWatch)] = []
    var mailboxes: [AnyObject] = []

    private var slots: [Slot] = []
    private var freeSlots: [Int] = []
    private var turnEndHandlers: [() -> Void] = []
    private var isStopping = false
    private var isClosed = false

    enum Source {
        case none
        case socket(UDPSocket)
        case watch(FileWatch)
    }

    private struct Slot {
        var source = Source.none
        var generation: UInt32 = 0
    }

    /// - Throws: `ReactorError` when the asked backend cannot be had, with the reason.
    public convenience init(io: IO = .auto) throws(ReactorError) {
        try self.init(backend: Self.makeBackend(io))
    }

    init(backend: any Backend) throws(ReactorError) {
        self.backend = backend
        guard let outbox = unsafe fcio_outbox_create() else { throw ReactorError("outbox", "", code: ENOMEM) }
        unsafe self.outbox = unsafe outbox
        now = Self.clock()
        let descriptor = fcio_eventfd()
        wakeup = Wakeup(descriptor: descriptor)
        guard descriptor >= 0 else { throw ReactorError("eventfd", "", code: descriptor) }
        fcio_precise_timers()
        dirty.reserveCapacity(16)
        try watch(descriptor, closing: true) { [unowned self] _ in runPosts() }
    }

    deinit {
        close()
        unsafe fcio_outbox_destroy(outbox)
    }

    /// The monotonic clock, for those who cannot take `now`.
    public static func clock() -> Instant { Instant(nanoseconds: fcio_now()) }

    /// The time of day: nanoseconds since 1970-01-01 00:00 UTC. It may be set, and go back.
    public static func timeOfDay() -> Int64 {
        var now = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &now)
        return Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec)
    }

    // MARK: making things

    /// Binds a UDP socket; port 0 takes a free one.
    /// - Throws: `ReactorError` naming the call, the address, the reason and what would do.
    public func udpSocket(
        bind address: SocketAddress, options: UDPOptions = UDPOptions()
    ) throws(ReactorError) -> UDPSocket {
        try add(try UDPSocket(reactor: self, bind: address, options: options))
    }

    /// A socket for whoever comes: the unspecified address of IPv6 is every address of the machine, those of IPv4 too.
    public func serverSocket(
        bind address: SocketAddress, options: UDPOptions = UDPOptions()
    ) throws(ReactorError) -> UDPSocket {
        var options = options
        options.onlyIPv6 = !address.address.isUnspecified
        return try udpSocket(bind: address, options: options)
    }

    /// A socket that the service manager has handed over, with what of `options` does not say how it is bound.
    public func udpSocket(
        _ inherited: InheritedSocket, options: UDPOptions = UDPOptions()
    ) throws(ReactorError) -> UDPSocket {
        try add(try UDPSocket(reactor: self, inherited: inherited, options: options))
    }

    private func add(_ socket: UDPSocket) throws(ReactorError) -> UDPSocket {
        do throws(ReactorError) {
            socket.token = try add(.socket(socket)) { [backend] token throws(ReactorError) in
                try backend.receive(token, descriptor: socket.descriptor)
            }
        } catch {
            Glibc.close(socket.descriptor)
            throw error
        }
        return socket
    }

    /// A timer that runs `handler`, scheduled at `deadline` or not yet. Keep the handle: dropping it cancels.
    public func timer(at deadline: Instant = .distantFuture, _ handler: @escaping () -> Void) -> TimerHandle {
        let handle = TimerHandle(reactor: self, slot: timers.add(handler))
        handle.schedule(at: deadline)
        return handle
    }

    /// Runs `handler` at the end of each turn, before what was queued is sent.
    public func onTurnEnd(_ handler: @escaping () -> Void) { turnEndHandlers.append(handler) }

    // MARK: running

    /// Takes turns until `stop`.
    public func run() {
        fcio_precise_timers()
        while !isStopping, !isClosed { turn() }
        isStopping = false
    }

    /// Has `run` return at the end of this turn. Other threads post this: `wakeup.post { $0.stop() }`.
    public func stop() { isStopping = true }

    /// One turn: waits until something happens, at most `timeout`, and handles all of it.
    public func turn(timeout: Duration? = nil) {
        guard !isClosed else { return }
        // What was queued between turns does not wait for an event.
        flush()
        let start = Self.clock()
        var wait: Int64 = -1
        if let timeout { wait = max(0, timeout.nanoseconds) }
        if let next = timers.next {
            let left = max(0, next.nanoseconds - start.nanoseconds)
            wait = wait < 0 ? left : min(wait, left)
        }
        if !troubled.isEmpty { wait = 0 }
        if let gathering {
            self.gathering = nil
            let pause = max(0, gathering.nanoseconds - start.nanoseconds)
            if wait > pause || wait < 0 { gather(pause) } else { gather(wait) }
            if wait > 0 { wait = max(0, wait - pause) }
        }
        counters.turns += 1
        if wait != 0 { counters.sleeps += 1 }
        awoken = nil
        backend.wait(nanoseconds: wait, events: self)
        if awoken == nil { arrive() }
        reportErrors()
        fireTimers()
        for handler in turnEndHandlers { handler() }
        flush()
        counters.completionOverflow = backend.overflow
        let busy = UInt64(max(0, Self.clock().nanoseconds - now.nanoseconds))
        counters.busyNanoseconds += busy
        counters.longestTurnNanoseconds = max(counters.longestTurnNanoseconds, busy)
    }

    /// Until when arrivals gather before the next turn looks at them.
    private var gathering: Instant?

    /// Leaves arrivals alone until `deadline`, or a timer, comes: for who gains little from each and saves turns and calls by
    /// taking many together. It is for the next turn only, and the earliest of several deadlines counts.
    public func gather(until deadline: Instant) { gathering = min(deadline, gathering ?? .distantFuture) }

    private func gather(_ nanoseconds: Int64) {
        guard nanoseconds > 0 else { return }
        counters.systemCalls += 1
        counters.gatherings += 1
        fcio_sleep(nanoseconds)
    }

    /// When this turn's wait ended, once it has.
    private var awoken: Instant?

    /// The wait is over: the first event, or its end, sets the clock.
    private func arrive() {
        now = Self.clock()
        awoken = now
    }

    private func fireTimers() {
        let limit = timers.nextSequence
        while let handler = timers.popDue(at: now, before: limit) {
            counters.timersFired += 1
            handler()
        }
    }

    private func reportErrors() {
        guard !troubled.isEmpty else { return }
        let sockets = troubled
        troubled = []
        for socket in sockets { socket.reportErrors() }
    }

    private func flush() {
        // A flush calls no handler, so the list is stable.
        for socket in dirty {
            socket.turnFlush()
        }
        dirty.removeAll(keepingCapacity: true)
    }

    private func runPosts() {
        counters.wakeUps += 1
        for work in wakeup.take() {
            counters.posts += 1
            work(self)
        }
    }

    // MARK: closing

    /// Closes every socket and watch and forgets every handler. The reactor is of no use afterwards; a second call
    /// does nothing.
    public func close() {
        guard !isClosed else { return }
        isClosed = true
        wakeup.close()
        for signal in signals { fcio_signal_unwatch(signal.number) }
        // What goes away here may hold sockets and timers: it goes when nothing is being changed any more.
        let leaving = (slots, signals, timers, mailboxes, turnEndHandlers, dirty, troubled)
        signals = []
        for index in slots.indices {
            let token = Token(slot: index, generation: slots[index].generation)
            switch slots[index].source {
            case .none: break
            case .socket(let socket):
                backend.remove(token, descriptor: socket.descriptor)
                socket.shutDown()
            case .watch(let watch):
                backend.remove(token, descriptor: watch.descriptor)
                watch.shutDown()
            }
            // Whatever the rest of this turn still reports finds nobody.
            slots[index].source = .none
        }
        dirty = []
        troubled = []
        timers = Timers()
        mailboxes = []
        turnEndHandlers = []
        backend.close()
        withExtendedLifetime(leaving) {}
    }

    // MARK: the table of sources

    func add(
        _ source: Source, _ register: (Token) throws(ReactorError) -> Void
    ) throws(ReactorError) -> Token {
        guard !isClosed else { throw ReactorError("reactor", "", reason: "it is closed") }
        let slot: Int
        if let free = freeSlots.popLast() {
            slot = free
        } else {
            slots.append(Slot())
            slot = slots.count - 1
        }
        let token = Token(slot: slot, generation: slots[slot].generation)
        do throws(ReactorError) {
            try register(token)
        } catch {
            freeSlots.append(slot)
            throw error
        }
        slots[slot].source = source
        return token
    }

    func remove(_ token: Token, descriptor: Int32) {
        backend.remove(token, descriptor: descriptor)
        let leaving = slots[token.slot].source
        slots[token.slot].source = .none
        slots[token.slot].generation &+= 1
        freeSlots.append(token.slot)
        withExtendedLifetime(leaving) {}
    }

    private func source(_ token: Token) -> Source {
        guard token.slot < slots.count,
            Token(slot: token.slot, generation: slots[token.slot].generation) == token
        else { return .none }
        return slots[token.slot].source
    }
}

extension Reactor: BackendEvents {
    func countReceived(_ inbox: fcio_inbox) {
        counters.receiveBatches += 1
        counters.messagesIn += unsafe UInt64(inbox.message_count)
        counters.datagramsIn += unsafe UInt64(inbox.datagram_count)
        counters.octetsIn += unsafe inbox.octets
        counters.truncated += unsafe UInt64(inbox.truncated)
        counters.longestReceiveBatch = max(counters.longestReceiveBatch, unsafe UInt64(inbox.datagram_count))
    }

    func received(_ inbox: UnsafeMutablePointer<fcio_inbox>, for token: Token) {
        if awoken == nil { arrive() }
        if case .socket(let socket) = source(token) { unsafe socket.deliver(inbox) }
    }

    func receiveFailed(_ code: Int32, for token: Token) {
        if awoken == nil { arrive() }
        if case .socket(let socket) = source(token), socket.takesErrors { socket.takeErrors() }
        if code != EAGAIN { counters.receiveErrors += 1 }
    }

    func writable(_ token: Token) {
        if awoken == nil { arrive() }
        switch source(token) {
        case .none: break
        case .socket(let socket): socket.becameWritable()
        case .watch(let watch): watch.onWritable?()
        }
    }

    func readable(_ token: Token) {
        if awoken == nil { arrive() }
        if case .watch(let watch) = source(token) { watch.handler?(watch) }
    }

    func countSystemCalls(_ count: Int) { counters.systemCalls += UInt64(count) }
}
