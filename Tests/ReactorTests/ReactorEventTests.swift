import Foundation
import Glibc
import Reactor
import Synchronization
import Testing
import Wire

/// Other threads, signals, files and processes. One at a time: a signal has one watcher per process.
@Suite(.serialized) struct ReactorEventTests {
    @Test(arguments: backends)
    func otherThreadsWakeTheReactor(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        var heard: [[Int]] = [[], [], [], []]
        let mailbox = reactor.mailbox(of: (Int, Int).self) { thread, number in heard[thread].append(number) }
        let wakeup = reactor.wakeup
        let left = Atomic(4)
        for thread in 0..<4 {
            Thread.detachNewThread {
                for number in 0..<1000 { mailbox.send((thread, number)) }
                if left.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 { wakeup.post { $0.stop() } }
            }
        }
        reactor.run()
        #expect(heard.allSatisfy { $0 == Array(0..<1000) })
        #expect(reactor.counters.posts == 4001)
        #expect(reactor.counters.wakeUps <= 4001)
    }

    @Test(arguments: backends)
    func postsAreRefusedWhenTheyCannotRun(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        for _ in 0..<Wakeup.limit { #expect(reactor.wakeup.post { _ in }) }
        #expect(!reactor.wakeup.post { _ in })
        #expect(reactor.wakeup.refusedCount == 1)
        reactor.turn()
        #expect(reactor.counters.posts == UInt64(Wakeup.limit) && reactor.counters.wakeUps == 1)
        let mailbox = reactor.mailbox(of: Int.self) { _ in }
        #expect(mailbox.send(1))
        reactor.close()
        #expect(!reactor.wakeup.post { _ in })
        #expect(!mailbox.send(1))
        #expect(reactor.wakeup.refusedCount == 3)
    }

    @Test(arguments: backends)
    func signalsReachTheirHandler(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        let other = try Reactor(io: .epoll)
        defer { other.close() }
        var heard: [String] = []
        try reactor.onSignal(SIGUSR1) { heard.append("replaced") }
        try reactor.onSignal(SIGUSR1) { heard.append("one") }
        try reactor.onSignal(SIGUSR2) { [unowned reactor] in
            heard.append("two")
            reactor.stop()
        }
        let busy = try #require(throws: ReactorError.self) { try other.onSignal(SIGUSR1) {} }
        #expect(busy.description.contains("another reactor"))
        #expect(throws: ReactorError.self) { try other.onSignal(SIGKILL) {} }
        kill(getpid(), SIGUSR1)
        #expect(reactor.turns { !heard.isEmpty })
        kill(getpid(), SIGUSR2)
        reactor.run()
        #expect(heard == ["one", "two"])
        reactor.close()
        // Closing hands the signal on.
        try other.onSignal(SIGUSR1) { heard.append("other") }
        kill(getpid(), SIGUSR1)
        #expect(other.turns { heard.last == "other" })
    }

    /// Whoever starts a process may have blocked the signals that are to end it.
    @Test func aWatchedSignalIsUnblocked() throws {
        let reactor = try Reactor(io: .epoll)
        defer { reactor.close() }
        var mask = sigset_t()
        unsafe sigemptyset(&mask)
        unsafe sigaddset(&mask, SIGWINCH)
        unsafe pthread_sigmask(SIG_BLOCK, &mask, nil)
        var heard = false
        try reactor.onSignal(SIGWINCH) { heard = true }
        raise(SIGWINCH)
        #expect(reactor.turns { heard })
    }

    @Test(arguments: backends)
    func aPipeIsReadUntilItEnds(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let (reading, writing) = try makePipe()
        var heard: [UInt8] = []
        var ended = false
        let watch = try reactor.watch(reading, closing: true) { watch in
            // Small bites: the handler comes again for the rest.
            if case .end? = try? watch.read(appendingTo: &heard, limit: 3) {
                ended = true
                watch.cancel()
            }
        }
        // The pipe is empty and in blocking mode; reading must not wait.
        #expect(try watch.read(appendingTo: &heard) == .nothing)
        _ = unsafe write(writing, "hello, pipe", 11)
        #expect(reactor.turns { heard.count == 11 })
        #expect(!ended)
        close(writing)
        #expect(reactor.turns { ended })
        #expect(String(decoding: heard, as: UTF8.self) == "hello, pipe")
        #expect(!watch.isActive)
    }

    @Test(arguments: backends)
    func filesThatAreAlwaysReadyAreReadToo(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let descriptor = unsafe open("/dev/null", O_RDONLY | O_CLOEXEC)
        var ended = false
        try reactor.watch(descriptor, closing: true) { watch in
            var bytes: [UInt8] = []
            if case .end? = try? watch.read(appendingTo: &bytes) {
                ended = true
                watch.cancel()
            }
        }
        #expect(reactor.turns { ended })
    }

    @Test(arguments: backends)
    func childProcessesAreFollowed(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let (reading, writing) = try makePipe()
        var output: [UInt8] = []
        var exits: [String: ProcessExit] = [:]
        let first = spawn("printf 'from the child'; exit 3", output: writing)
        close(writing)
        try reactor.watch(reading, closing: true) { watch in
            if case .end? = try? watch.read(appendingTo: &output) { watch.cancel() }
        }
        try reactor.watchProcess(first) { exits["first"] = $0 }
        let second = spawn("kill -KILL $$")
        try reactor.watchProcess(second) { exits["second"] = $0 }
        #expect(reactor.turns { exits.count == 2 && output.count == 14 })
        #expect(String(decoding: output, as: UTF8.self) == "from the child")
        #expect(exits == ["first": .code(3), "second": .signal(SIGKILL)])
        #expect(throws: ReactorError.self) { try reactor.watchProcess(first) { _ in } }
    }

    /// The thread's own table of descriptors, so that other tests do not disturb the count.
    @Test(arguments: backends)
    func nothingIsLeftOpen(io: Reactor.IO) throws {
        let counts = try #require(
            onThread(unsharing: .files) {
                func count() -> Int {
                    (try? FileManager.default.contentsOfDirectory(atPath: "/proc/thread-self/fd").count) ?? -1
                }
                let before = count()
                for round in 0..<3 {
                    guard let reactor = try? Reactor(io: io) else { return (before, -1, before) }
                    let socket = try? reactor.udpSocket(bind: address("127.0.0.1:0"))
                    _ = try? reactor.udpSocket(bind: socket?.localAddress ?? address("127.0.0.1:1"))
                    try? reactor.onSignal(SIGURG) {}
                    if let ends = try? makePipe() {
                        _ = try? reactor.watch(ends.reading, closing: true) { _ in }
                        close(ends.writing)
                    }
                    _ = try? reactor.watch(9999) { _ in }
                    let child = spawn("exit 0")
                    var exited = false
                    _ = try? reactor.watchProcess(child) { _ in exited = true }
                    while !exited { reactor.turn() }
                    let timer = reactor.timer(at: reactor.now + .seconds(100)) {}
                    if round == 1 { socket?.close() }
                    if round == 2 { reactor.close() }
                    if count() < before { return (before, -2, before) }
                    withExtendedLifetime(timer) {}
                }
                return (before, 0, count())
            })
        #expect(counts.1 == 0)
        #expect(counts.0 == counts.2)
    }
}

func makePipe() throws -> (reading: Int32, writing: Int32) {
    var ends: [Int32] = [0, 0]
    try #require(unsafe pipe(&ends) == 0)
    for end in ends { setCloseOnExec(end) }
    return (ends[0], ends[1])
}

private func setCloseOnExec(_ descriptor: Int32) {
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
}
