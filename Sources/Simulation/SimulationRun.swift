import Flexicast
import QUIC
import Wire

/// What a simulated world came to.
public struct SimulationReport: Sendable {
    /// Receivers that played by the rules, those that went included.
    public var receivers = 0
    /// Those that did not.
    public var liars = 0
    /// Objects published.
    public var objects = 0
    /// Objects that came to honest receivers.
    public var received: UInt64 = 0
    /// Datagrams that arrived.
    public var deliveries: UInt64 = 0
    /// Simulated time.
    public var duration = Duration.zero
    /// From an object's publication to its last octet, in milliseconds: the median, 99 of 100, 999 of 1000.
    public var latency: (p50: Double, p99: Double, p999: Double) = (0, 0, 0)
    /// The longest.
    public var longest = Duration.zero
    /// Members of the flow at the end.
    public var members = 0
    /// What happened, in one number: equal for equal seeds and plans.
    public var digest: UInt64 = 0
    /// The first few things that were wrong.
    public var complaints: [String] = []
    /// How many were.
    public var complaintCount = 0
}

/// Runs a plan: a crowd on a simulated network, a judge that watches it, and the end, after which nothing may be left.
public final class SimulationRun {
    private enum Event {
        case arrive, object, churn
        case cycle(Int)
        case invent(Int)
        case served(Int)
        case reconnect(Int)
        case fault(Int)
        case mend(branch: Int)
    }

    private let plan: SimulationPlan
    private let simulation: Simulation
    private var judge: SimulationJudge
    private var random: SeededRandom
    private var events = EventQueue<Event>()
    private let begin: Instant
    /// By receiver: honest ones are judged.
    private var isHonest: [Bool] = []
    /// Honest receivers that are there.
    private var present: [Int] = []
    private var arrived = 0
    private var isSettling = false

    /// After the last object, until everybody should have everything.
    private static let settleTime = Duration.seconds(30)
    /// After everybody has left, until nothing should be left: longer than an idle timeout.
    private static let leaveTime = Duration.seconds(90)
    /// Time for a new receiver to connect and state its position.
    private static let connectTime = Duration.seconds(5)

    /// - Parameter seed: what all chance comes from: the same seed and plan give the same run.
    public init(_ plan: SimulationPlan, seed: UInt64) {
        self.plan = plan
        random = SeededRandom(seed: seed)
        simulation = Simulation(seed: random.next())
        simulation.source.forgets = true
        judge = SimulationJudge(lateness: plan.lateness)
        begin = simulation.now
        for _ in 0..<max(1, plan.branches) { simulation.addBranch(Branch(link: plan.branch)) }
    }

    /// Runs the whole plan.
    /// - Parameter progress: told of the simulated time now and then.
    public func run(progress: (Duration) -> Void = { _ in }) -> SimulationReport {
        scheduleAll()
        advance(to: begin + plan.duration, progress)
        isSettling = true
        advance(to: simulation.now + Self.settleTime, progress)
        var report = SimulationReport()
        report.members = simulation.source.flow.memberCount
        for receiver in present { judge.judge(receiver, simulation.receivers[receiver], isEnd: true) }
        leave()
        report.receivers = isHonest.count { $0 }
        report.liars = isHonest.count - report.receivers
        report.objects = judge.publishedCount
        report.received = judge.objectsReceived
        report.deliveries = simulation.deliveries
        report.duration = simulation.now - begin
        report.latency = (judge.percentile(0.5), judge.percentile(0.99), judge.percentile(0.999))
        report.longest = judge.longest
        report.digest = simulation.digest
        report.complaints = judge.complaints
        report.complaintCount = judge.complaintCount
        return report
    }

    private func scheduleAll() {
        let liars = plan.liars.values.reduce(0, +)
        let arrivals = plan.receivers + liars
        for number in 0..<arrivals {
            events.schedule(.arrive, at: begin + plan.arrival * (Double(number) / Double(max(1, arrivals))))
        }
        var time = plan.objectInterval
        while time < plan.duration {
            events.schedule(.object, at: begin + time)
            time += plan.objectInterval
        }
        let goes = plan.churn * Double(plan.receivers) / 60
        if goes > 0 {
            var time = plan.arrival.seconds
            while time < plan.duration.seconds {
                events.schedule(.churn, at: begin + .nanoseconds(Int64(time * 1e9)))
                time += 1 / goes
            }
        }
        for (index, fault) in plan.faults.enumerated() { events.schedule(.fault(index), at: begin + fault.at) }
    }

    private func advance(to end: Instant, _ progress: (Duration) -> Void) {
        var told = simulation.now
        while true {
            let next = min(events.next, end)
            simulation.advance(to: next)
            if simulation.now - told >= .seconds(1) {
                told = simulation.now
                progress(simulation.now - begin)
            }
            guard events.next <= end else { break }
            while let event = events.take(at: simulation.now) { handle(event) }
        }
    }

    private func handle(_ event: Event) {
        switch event {
        case .arrive:
            // Liars come among the others, evenly.
            let all = plan.receivers + plan.liars.values.reduce(0, +)
            let before = arrived * (all - plan.receivers) / all
            arrived += 1
            let isLiar = arrived * (all - plan.receivers) / all > before
            isLiar ? addLiar(before) : addHonest()
        case .object:
            let body = random.octets(plan.objectSize)
            let sequence = simulation.publish(body).index
            judge.published(sequence, body, at: simulation.now)
        case .churn:
            guard !isSettling, !present.isEmpty else { return }
            let place = Int(random.next() % UInt64(present.count))
            let index = present[place]
            present.swapAt(place, present.count - 1)
            present.removeLast()
            judge.judge(index, simulation.receivers[index], isEnd: false)
            simulation.remove(simulation.receivers[index], closes: random.next() % 2 == 0)
            addHonest()
        case .served(let index):
            let receiver = simulation.receivers[index]
            if receiver.connection.isHandshakeConfirmed {
                judge.isServed(index)
            } else if !isSettling {
                events.schedule(.served(index), at: simulation.now + Self.connectTime)
            }
        case .cycle(let index):
            let receiver = simulation.receivers[index]
            if receiver.isInGroup { simulation.leave(receiver) } else { simulation.join(receiver) }
            if !isSettling { events.schedule(.cycle(index), at: simulation.now + .seconds(1)) }
        case .invent(let index):
            let receiver = simulation.receivers[index]
            // PATH_ACK (draft-ietf-quic-multipath-21 section 4.1) of a packet far ahead.
            simulation.send([0x3e, 1, 0x80, 0x0f, 0x42, 0x40, 0, 0, 0], from: receiver)
            if !isSettling { events.schedule(.invent(index), at: simulation.now + .milliseconds(100)) }
        case .reconnect(let index):
            let receiver = simulation.receivers[index]
            if !receiver.isGone, receiver.closed != nil { simulation.reconnect(receiver) }
        case .fault(let index): occur(plan.faults[index].fault)
        case .mend(let branch): simulation.cut(branch: branch, false)
        }
    }

    private func occur(_ fault: SimulationPlan.Fault) {
        switch fault {
        case .cut(let branch, let duration):
            simulation.cut(branch: branch, true)
            events.schedule(.mend(branch: branch), at: simulation.now + duration)
        case .restart: simulation.restartSource()
        case .rebind(let count):
            for _ in 0..<min(count, present.count) {
                simulation.receivers[present[Int(random.next() % UInt64(present.count))]].rebind()
            }
        }
    }

    // MARK: Who comes

    private func addHonest() {
        let receiver = add(links: links)
        isHonest.append(true)
        present.append(receiver.index)
        let index = receiver.index
        receiver.takesObject = { [unowned self] in judge.received($0, by: index, at: simulation.now) }
        receiver.ended = { [unowned self] reason in
            if case .statelessReset = reason {
            } else {
                judge.complain("receiver \(index) lost its connection: \(reason)")
            }
            // Not all at once.
            let pause = Duration.milliseconds(Int64(500 + random.next() % 2500))
            events.schedule(.reconnect(index), at: simulation.now + pause)
        }
        events.schedule(.served(index), at: simulation.now + Self.connectTime)
    }

    private func addLiar(_ number: Int) {
        var number = number
        let kind = SimulationPlan.Liar.allCases.first { kind in
            number -= plan.liars[kind] ?? 0
            return number < 0
        }
        guard let kind else { return }
        var links = links
        if kind == .lossy { links.flow.loss = 1 / 6 }
        let receiver = add(links: links) { wanted in
            if kind == .creditless {
                wanted = .receiver(usesFlow: true, grant: ReceiverGrant(octets: 0, streams: 0))
            }
        }
        isHonest.append(false)
        receiver.takesObject = { _ in }
        let soon = simulation.now + Self.connectTime
        switch kind {
        case .lossy, .creditless: break
        case .silent: receiver.fallsSilent = true
        case .cycling: events.schedule(.cycle(receiver.index), at: soon)
        case .inventing: events.schedule(.invent(receiver.index), at: soon)
        }
    }

    private var links: ReceiverLinks {
        ReceiverLinks(toSource: plan.link, fromSource: plan.link, flow: Link(loss: plan.link.loss))
    }

    private func add(
        links: ReceiverLinks, connection: (inout ConnectionConfiguration) -> Void = { _ in }
    ) -> SimulatedReceiver {
        judge.add()
        return simulation.addReceiver(
            links: links, branch: simulation.receivers.count % simulation.branches.count, connection: connection)
    }

    // MARK: The end

    /// Everybody leaves, and nothing may be left of them.
    private func leave() {
        for (index, receiver) in simulation.receivers.enumerated() where !receiver.isGone {
            simulation.remove(receiver, closes: isHonest[index])
        }
        advance(to: simulation.now + Self.leaveTime) { _ in }
        let server = simulation.source.server
        if server.receiverCount > 0 { judge.complain("\(server.receiverCount) receivers are left when all have gone") }
        if simulation.source.flow.memberCount > 0 { judge.complain("members are left when all have gone") }
        if simulation.source.flow.octetsHeld > 0 {
            judge.complain("the flow keeps \(simulation.source.flow.octetsHeld) octets when all have gone")
        }
        if let fault = server.checkInvariants() { judge.complain(fault) }
    }
}
