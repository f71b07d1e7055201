import Feed
import FoundationEssentials
import Glibc
import Operation
import Reactor
import System
import Wire

/// One run of a plan: hosts, clocks, roles, items, faults, and an end that always comes. A host that fails is named, and the rest
/// goes on.
///
/// Everything happens on the calling thread: each step waits for its events by turning the reactor.
package final class CampaignRun {
    /// Hosts that are connected to at the same time.
    static let connectionsAtOnce = 64
    /// How long a role may take to say that it is ready.
    static let rolePatience = Duration.seconds(30)
    /// How long roles may take to end when they are asked to.
    static let endPatience = Duration.seconds(15)
    /// The same when whoever watches wants to go.
    static let interruptedPatience = Duration.seconds(5)

    let plan: Plan
    let settings: CampaignSettings
    let reactor: Reactor
    var view = TerminalView()
    private(set) var sessions: [String: HostSession] = [:]
    /// In the order in which they are shown.
    private(set) var roles: [RoleState] = []
    private var byName: [String: RoleState] = [:]
    private(set) var phase = "checking hosts"
    var faults: [CampaignFacts.Fault] = []
    private(set) var notes: [String] = []
    private var timers: [TimerHandle] = []
    private let began = Reactor.timeOfDay()
    private(set) var sendingBegan: (time: Int64, instant: Instant)?
    private var sendingEnded: Int64?
    private(set) var isInterrupted = false
    private var failure: String?

    /// - Throws: when the folder is there already or cannot be made, or there is no loop.
    package init(_ plan: Plan, _ settings: CampaignSettings) throws {
        self.plan = plan
        self.settings = settings
        reactor = try Reactor()
        guard !FileManager.default.fileExists(atPath: settings.folder) else {
            throw EndpointError("\(settings.folder) is there already; give --output another folder, or remove it")
        }
        for folder in [CampaignFolder.events, CampaignFolder.logs] {
            try makeDirectories("\(settings.folder)/\(folder)")
        }
        try saying("write the plan to \(settings.folder)") {
            try Data(plan.text.utf8).write(to: URL(filePath: "\(settings.folder)/\(CampaignFolder.plan)"))
        }
    }

    /// Runs to the end, whatever happens on the way.
    /// - Returns: what it was. The folder has what its roles said.
    package func run() throws -> CampaignFacts {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            try reactor.onSignal(signal) { [unowned self] in
                // Who asks twice does not want to wait. The agents notice that we are gone.
                if isInterrupted { _exit(130) }
                isInterrupted = true
                say("interrupted: everything is ended")
            }
        }
        do {
            try connect()
            try start()
            try send()
        } catch {
            if !isInterrupted { failure = "\(error)" }
            say("\(error)")
        }
        end()
        view.finish()
        return facts
    }

    // MARK: hosts

    private func connect() throws {
        enter("checking hosts")
        let session = { (host: Plan.Host) in
            HostSession(
                host, on: self.reactor, settings: self.settings,
                onReport: { [unowned self] in take($1, from: $0) }, onFailure: { [unowned self] in lost($0) })
        }
        var waiting = plan.hosts.map { host in
            let session = session(host)
            sessions[host.name] = session
            return session
        }
        say("checking \(waiting.count) host\(waiting.count == 1 ? "" : "s")")
        waiting.reverse()
        try wait(for: nil) { [self] in
            while let next = waiting.last,
                sessions.values.count(where: { !$0.isSettled && $0.state != .waiting }) < Self.connectionsAtOnce
            {
                waiting.removeLast()
                next.connect()
            }
            return sessions.values.allSatisfy(\.isSettled)
        }
        let ready = plan.hosts.compactMap { sessions[$0.name] }.filter(\.isReady)
        for session in ready {
            let clock = ClockEstimate(session.clock)
            let text = clock.map {
                "clock \(milliseconds($0.offsetNanoseconds)) ms ± \(milliseconds($0.uncertaintyNanoseconds)) ms"
            }
            say("\(session.host.name): ready, \(session.installation), \(text ?? "")")
        }
        guard let source = sessions[plan.source.host], source.isReady else {
            throw EndpointError("the source's host \(plan.source.host) is not there: nothing can be sent")
        }
    }

    private func lost(_ session: HostSession) {
        let reason = session.failure ?? ""
        say("\(session.host.name): failed: \(reason)")
        for role in roles where role.facts.host == session.host.name && role.isRunning {
            role.progress = .ended
            if !role.isExpectedToEnd { role.facts.failure = "its host was lost: \(reason)" }
            role.mark("lost", at: Reactor.timeOfDay())
        }
    }

    // MARK: roles

    private func start() throws {
        enter("starting roles")
        let source = role(
            CampaignFacts.Role(
                name: Plan.sourceName, kind: .source, host: plan.source.host),
            sourceArguments)
        try putFeed()
        begin(source)
        try wait(for: Self.rolePatience) { source.isReady || !source.isRunning }
        guard source.isReady else {
            throw EndpointError("the source did not begin to listen: \(source.facts.failure ?? source.lastLog)")
        }
        if let relay = plan.relay {
            let role = role(
                CampaignFacts.Role(
                    name: Plan.relayName, kind: .relay, host: relay.host),
                relayArguments(relay))
            begin(role)
            try wait(for: Self.rolePatience) { role.isReady || !role.isRunning }
            if !role.isReady { note("the relay did not begin to listen: \(role.facts.failure ?? role.lastLog)") }
        }
        for receiver in plan.receivers {
            begin(
                role(
                    CampaignFacts.Role(
                        name: receiver.name, kind: .receiver, host: receiver.host, path: receiver.path),
                    receiverArguments(receiver)))
        }
        try wait(for: Self.rolePatience) { [self] in receivers.allSatisfy { $0.isReady || !$0.isRunning } }
        for role in receivers where !role.isReady && role.facts.failure == nil {
            note("\(role.name) was not ready before the sending began: \(role.way.isEmpty ? role.lastLog : role.way)")
        }
        guard receivers.contains(where: \.isRunning) else { throw EndpointError("no receiver runs") }
    }

    private func role(_ facts: CampaignFacts.Role, _ arguments: [String]) -> RoleState {
        let role = RoleState(facts, arguments: arguments, folder: settings.folder)
        roles.append(role)
        byName[facts.name] = role
        return role
    }

    var receivers: [RoleState] { roles.filter { $0.facts.kind == .receiver } }
    func role(_ name: String) -> RoleState? { byName[name] }
    func session(of role: RoleState) -> HostSession? { sessions[role.facts.host] }

    /// Starts a role's process, unless its host is not there.
    func begin(_ role: RoleState) {
        guard let session = session(of: role), session.isReady else {
            role.facts.failure = "its host is not there: \(session(of: role)?.failure ?? "it is not ready")"
            role.progress = .ended
            return
        }
        role.progress = .starting
        role.isExpectedToEnd = false
        role.isGone = false
        role.mark("started", at: Reactor.timeOfDay())
        session.order(.start(role: role.name, arguments: role.arguments))
    }

    // MARK: what is said

    private func take(_ report: AgentReport, from session: HostSession) {
        switch report {
        case .line(let name, let nanoseconds, let text):
            guard let role = byName[name] else { return }
            role.progress = .running
            role.keep(text, at: nanoseconds)
            guard let line = RoleLine(text) else { return }
            switch role.facts.kind {
            case .receiver: role.apply(line)
            case .source:
                if line.event == "listening" { certificate = line.certificate }
                if line.event == "item" { role.items += 1 }
                fallthrough
            case .relay: if line.event == "listening" { role.isReady = true }
            }
        case .log(let name, let text): byName[name]?.logged(text)
        case .usage(let name, let milliseconds, let octets):
            byName[name]?.facts.processorMilliseconds = milliseconds
            byName[name]?.facts.memoryOctets = octets
        case .ended(let name, let nanoseconds, let status):
            guard let role = byName[name] else { return }
            role.progress = .ended
            role.facts.status = status
            role.mark("ended", at: nanoseconds, [("status", Int(status))])
            guard !role.isExpectedToEnd else { return }
            let how = status < 0 ? "it was ended by signal \(-status)" : "it ended with status \(status)"
            role.facts.failure = role.lastLog.isEmpty ? how : "\(how): \(role.lastLog.prefix(200))"
            say("\(name): \(role.facts.failure ?? how)")
        case .failed(let what, let reason):
            note("\(session.host.name): \(what): \(reason)")
            // An order to start that failed is the end of what was to be started.
            if what.hasPrefix("start "), let role = byName[String(what.dropFirst("start ".count))] {
                role.progress = .ended
                role.facts.failure = reason
            }
        case .hello, .clock: break
        }
    }

    private(set) var certificate: String?

    // MARK: sending

    private func send() throws {
        enter("sending")
        guard let source = byName[Plan.sourceName] else { return }
        sendingBegan = (Reactor.timeOfDay(), reactor.now)
        let start = reactor.now
        var wanted: Int?
        if case .samples(let items, let interval, let size) = plan.content {
            wanted = items
            session(of: source)?.order(
                .grow(
                    file: Self.feedFile, items: items, intervalMilliseconds: interval / .milliseconds(1), size: size))
            say("sending \(items) items, one every \(interval.shortText)")
        } else {
            say("sending what comes for \(plan.duration.shortText)")
        }
        for fault in plan.faults { timers += schedule(fault, start: start) }
        let lastFault = plan.faults.map { $0.at + ($0.lasting ?? .zero) }.max() ?? .zero
        var told = 0
        try wait(for: plan.duration) { [self] in
            guard source.isRunning else { return true }
            let tenth = wanted.map { max(1, $0 / 10) } ?? 10
            if source.items / tenth > told {
                told = source.items / tenth
                sayProgress(source, wanted)
            }
            guard let wanted else { return false }
            return source.items >= wanted && everyoneHasEverything && reactor.now - start >= lastFault
        }
        sendingEnded = Reactor.timeOfDay()
        if !source.isRunning {
            throw EndpointError("the source is gone: \(source.facts.failure ?? "stopped by a fault")")
        }
        enter("waiting for the last items")
        try wait(for: plan.settle) { [self] in everyoneHasEverything || !source.isRunning }
    }

    /// Whether everyone who is still there has as many items as were sent.
    private var everyoneHasEverything: Bool {
        let sent = byName[Plan.sourceName]?.items ?? 0
        return receivers.allSatisfy { !$0.isRunning || $0.items >= sent }
    }

    private func sayProgress(_ source: RoleState, _ wanted: Int?) {
        let late = receivers.filter { $0.isRunning && $0.items + 1 < source.items }
        let names =
            late.count > 3
            ? "; \(late.count) receivers are behind"
            : late.map { "; \($0.name) lacks \(source.items - $0.items)" }.joined()
        say("item \(source.items)\(wanted.map { " of \($0)" } ?? "")\(names)")
    }

    // MARK: the end

    /// Ends every role and every agent; never throws, and never takes long.
    private func end() {
        enter("ending")
        timers = []
        let patience = isInterrupted ? Self.interruptedPatience : Self.endPatience
        if !isInterrupted {
            for session in sessions.values where session.isReady { session.compareClocks() }
            settle(.seconds(3)) { [self] in !sessions.values.contains(where: \.isComparingClocks) }
        }
        // The source's last counts cover the whole run when the receivers have gone.
        for kinds in [[CampaignFacts.Role.Kind.receiver], [.source], [.relay]] {
            let ending = roles.filter { kinds.contains($0.facts.kind) && $0.isRunning }
            for role in ending { stop(role, by: SIGTERM) }
            if !isInterrupted { settle(patience) { !ending.contains(where: \.isRunning) } }
        }
        settle(patience) { [self] in !roles.contains(where: \.isRunning) }
        for role in roles where role.isRunning { note("\(role.name) did not end when it was asked to") }
        for session in sessions.values { session.leave() }
        settle(Agent.grace + .seconds(2)) { [self] in sessions.values.allSatisfy(\.isOver) }
        for session in sessions.values { session.abandon() }
        if let problem = roles.lazy.compactMap(\.writeFailure).first { note("not all could be kept: \(problem)") }
    }

    func stop(_ role: RoleState, by signal: Int32) {
        guard role.isRunning else { return }
        role.isExpectedToEnd = true
        session(of: role)?.order(.signal(role: role.name, number: signal))
    }

    private var facts: CampaignFacts {
        CampaignFacts(
            name: plan.name, version: settings.version, began: began, sendingBegan: sendingBegan?.time,
            sendingEnded: sendingEnded, ended: Reactor.timeOfDay(), isInterrupted: isInterrupted, failure: failure,
            group: plan.source.group?.description, relayAddress: plan.relay?.address.description,
            hosts: plan.hosts.map { host in
                let session = sessions[host.name]
                return CampaignFacts.Host(
                    name: host.name, destination: host.destination, facts: session?.facts,
                    installation: session?.installation ?? "", clock: session.flatMap { ClockEstimate($0.clock) },
                    failure: session?.failure)
            },
            roles: roles.map { role in
                var facts = role.facts
                facts.isEndedOnPurpose = role.isGone
                return facts
            }, faults: faults, notes: notes, plan: plan.text)
    }

    // MARK: waiting

    private struct Interrupted: Error, CustomStringConvertible { let description = "interrupted" }

    /// Turns the loop until `isDone`, or `limit` is up.
    /// - Throws: when whoever watches wants to go.
    private func wait(for limit: Duration?, until isDone: () -> Bool) throws {
        let deadline = limit.map { reactor.now + $0 }
        while !isDone() {
            if isInterrupted { throw Interrupted() }
            if let deadline, Reactor.clock() >= deadline { return }
            turn()
        }
        if isInterrupted { throw Interrupted() }
    }

    /// The same at the end, which is not interrupted.
    private func settle(_ limit: Duration, until isDone: () -> Bool) {
        let deadline = Reactor.clock() + limit
        while !isDone(), Reactor.clock() < deadline { turn() }
    }

    private func turn() {
        reactor.turn(timeout: .milliseconds(200))
        view.draw { recent, room in
            var lines = drawing()
            let most = room - recent.count - 1
            if lines.count > most {
                lines = lines.prefix(max(0, most - 1)) + ["  … and \(lines.count - most + 1) more"]
            }
            return lines + [""] + recent
        }
    }

    private func enter(_ phase: String) { self.phase = phase }

    func say(_ text: String) { view.say(text) }

    func note(_ text: String) {
        if notes.count < 1000 { notes.append(text) }
        say(text)
    }
}

/// Nanoseconds as milliseconds, with three digits.
func milliseconds(_ nanoseconds: Int64) -> String { fixed(Double(nanoseconds) / 1e6, 3) }
