import Reactor
import Testing
import Wire

@Suite struct TimerTests {
    @Test(arguments: backends)
    func timersFireInOrderAndNotEarly(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        var fired: [Int] = []
        var late = true
        let start = Reactor.clock()
        let timers = [7, 3, 5, 3, 1].enumerated().map { index, milliseconds in
            let deadline = start + .milliseconds(milliseconds)
            return reactor.timer(at: deadline) { [unowned reactor] in
                fired.append(index)
                late = late && reactor.now >= deadline
            }
        }
        #expect(reactor.turns { fired.count >= 5 })
        #expect(fired == [4, 1, 3, 2, 0])
        #expect(late)
        #expect(timers.allSatisfy { $0.deadline == .distantFuture })
        #expect(reactor.counters.timersFired == 5)
    }

    @Test(arguments: backends)
    func timersMoveAndStop(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        var fired: [String] = []
        let start = Reactor.clock()
        let moved = reactor.timer(at: start + .seconds(3600)) { fired.append("moved") }
        moved.schedule(at: start + .milliseconds(2))
        #expect(moved.deadline == start + .milliseconds(2))
        let cancelled = reactor.timer(at: start + .milliseconds(1)) { fired.append("cancelled") }
        cancelled.cancel()
        var dropped: TimerHandle? = reactor.timer(at: start + .milliseconds(1)) { fired.append("dropped") }
        #expect(dropped?.deadline == start + .milliseconds(1))
        dropped = nil
        let last = reactor.timer(at: start + .milliseconds(4)) { fired.append("last") }
        #expect(reactor.turns { fired.last == "last" })
        #expect(fired == ["moved", "last"])
        withExtendedLifetime((moved, cancelled, last)) {}
    }

    @Test(arguments: backends)
    func aTimerThatIsAlwaysDueDoesNotHoldUpTheTurn(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        var runs = 0
        var again: TimerHandle?
        again = reactor.timer(at: reactor.now) {
            runs += 1
            again?.schedule(at: Instant(nanoseconds: 0))
        }
        for turn in 1...5 {
            reactor.turn()
            #expect(runs == turn)
        }
    }

    @Test(arguments: backends)
    func whatGathersIsNotLookedAtBeforeItsTime(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let socket = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let collector = Collector()
        socket.handler = collector
        let peer = try RawSocket(ipv4: true)
        let deadline = Reactor.clock() + .milliseconds(20)
        peer.send([1], to: socket.localAddress)
        reactor.gather(until: deadline + .seconds(60))
        reactor.gather(until: deadline)
        reactor.turn()
        #expect(reactor.now >= deadline)
        #expect(reactor.turns { collector.datagrams.count == 1 })
        #expect(reactor.counters.gatherings == 1)

        // A timer does not wait, and a turn that may not wait does not either.
        var fired: Instant?
        let timer = reactor.timer(at: Reactor.clock() + .milliseconds(2)) { [unowned reactor] in fired = reactor.now }
        reactor.gather(until: reactor.now + .seconds(60))
        reactor.turn()
        #expect(try #require(fired) < reactor.now + .seconds(30))
        reactor.gather(until: reactor.now + .seconds(60))
        reactor.turn(timeout: .zero)
        #expect(reactor.counters.gatherings == 2)
        withExtendedLifetime(timer) {}
    }

    /// A thousand random moves against a plain table.
    @Test func timersAgreeWithATable() throws {
        let reactor = try Reactor(io: .epoll)
        defer { reactor.close() }
        var random = SeededRandom(seed: 7)
        var fired: [Int] = []
        let timers = (0..<50).map { index in reactor.timer { fired.append(index) } }
        var table = [(deadline: Int64, sequence: Int)?](repeating: nil, count: 50)
        for sequence in 0..<1000 {
            let index = Int(random.next() % 50)
            if random.next() % 4 == 0 {
                timers[index].cancel()
                table[index] = nil
            } else {
                let deadline = Int64(random.next() % 100)
                timers[index].schedule(at: Instant(nanoseconds: deadline))
                table[index] = (deadline, sequence)
            }
        }
        for index in timers.indices {
            #expect(timers[index].deadline == table[index].map { Instant(nanoseconds: $0.deadline) } ?? .distantFuture)
        }
        reactor.turn()
        let expected = table.indices.filter { table[$0] != nil }.sorted {
            guard let a = table[$0], let b = table[$1] else { return false }
            return (a.deadline, a.sequence) < (b.deadline, b.sequence)
        }
        #expect(fired == expected)
    }

    @Test(arguments: backends)
    func turnEndComesOncePerTurnAndBeforeTheFlush(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let socket = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let collector = Collector()
        socket.handler = collector
        var ends = 0
        reactor.onTurnEnd {
            ends += 1
            if ends == 1 { socket.send([5], to: socket.localAddress) }
        }
        reactor.turn(timeout: .zero)
        #expect(ends == 1 && reactor.counters.datagramsOut == 1)
        #expect(reactor.turns { !collector.datagrams.isEmpty })
        #expect(reactor.counters.turns == UInt64(ends))
        #expect(reactor.counters.busyNanoseconds >= reactor.counters.longestTurnNanoseconds)
    }
}
