import FoundationEssentials
import Glibc
import Operation
import Reactor
import System
import Wire

/// A host of a campaign: its agent, reached by ssh, and its clock. When it is gone it is gone for the rest of the run.
final class HostSession {
    enum State: Equatable {
        case waiting
        case connecting
        /// The clock is asked, then it is ready.
        case comparingClocks
        case ready
        case failed(String)
        /// It has ended as it was told to.
        case ended
    }

    /// How many exchanges compare the clocks before the start, and again at the end.
    static let exchanges = 20
    /// From the first attempt to the agent's first word, copying the program included.
    static let connectPatience = Duration.seconds(120)
    /// An agent that says nothing for so long, though it is asked each second, is lost.
    static let silence = Duration.seconds(12)
    /// Exchanges that are kept, of a long run.
    static let mostExchanges = 20_000
    /// A line of an agent, with a line of a role in it.
    private static let longestLine = 8 << 20

    let host: Plan.Host
    private(set) var state = State.waiting
    private(set) var facts: HostFacts?
    /// How the program came to be there.
    private(set) var installation = ""
    private(set) var clock: [ClockExchange] = []
    private let reactor: Reactor
    private let settings: CampaignSettings
    private let onReport: (HostSession, AgentReport) -> Void
    private let onFailure: (HostSession) -> Void
    private var process: AgentProcess?
    private var writer: OutputWriter?
    private var lastLog = ""
    private var deadline: TimerHandle?
    private var asking: TimerHandle?
    private var question: (number: Int, asked: Int64, at: Instant) = (0, 0, Instant(nanoseconds: 0))
    /// Exchanges that follow each other at once.
    private var burst = 0
    private var isLeaving = false

    init(
        _ host: Plan.Host, on reactor: Reactor, settings: CampaignSettings,
        onReport: @escaping (HostSession, AgentReport) -> Void, onFailure: @escaping (HostSession) -> Void
    ) {
        self.host = host
        self.reactor = reactor
        self.settings = settings
        self.onReport = onReport
        self.onFailure = onFailure
    }

    var isReady: Bool { state == .ready }
    var isOver: Bool { if case .failed = state { true } else { state == .ended } }
    var isSettled: Bool { isReady || isOver }
    var isComparingClocks: Bool { burst > 0 && !isOver }
    var failure: String? { if case .failed(let reason) = state { reason } else { nil } }

    // MARK: connecting

    func connect() {
        state = .connecting
        let command = HostCommand(host, program: settings.program)
        do {
            let pipe = try OpenFile.pipe()
            process = try AgentProcess(
                command.words, input: .open(pipe.reading), on: reactor, longestLine: Self.longestLine
            ) { [weak self] in self?.heard($0) }
            pipe.reading.close()
            writer = OutputWriter(pipe.writing)
        } catch { return fail("\(error)") }
        deadline = reactor.timer(at: reactor.now + Self.connectPatience) { [weak self] in
            guard let self else { return }
            fail(
                state == .connecting
                    ? "no answer in \(Self.connectPatience.components.seconds) seconds" : "it answers no more")
        }
    }

    private func heard(_ event: AgentProcess.Event) {
        switch event {
        case .log(let text): if !text.isEmpty { lastLog = text }
        case .ended(let status):
            process = nil
            if isLeaving { return end() }
            let how = status < 0 ? "it was ended by signal \(-status)" : "it ended with status \(status)"
            fail(lastLog.isEmpty ? how : lastLog)
        case .line(let text):
            if let report = message(AgentReport.self, of: text) {
                take(report)
            } else if state == .connecting, text.hasPrefix("program") {
                install(there: text.dropFirst("program".count).split(separator: " "))
            } else if !text.isEmpty {
                // What a login shell has to say comes first.
                lastLog = text
            }
        }
    }

    /// Answers what program the host has: it is used when it is ours, else ours is copied.
    private func install(there: [Substring]) {
        let ours = settings.version.split(separator: "\n").prefix(2).joined(separator: " ").split(separator: " ")
        guard there != ours else {
            installation = "\(host.program) is there"
            return write(Array("use\n".utf8))
        }
        do {
            let copy = try saying("read \(settings.program)") { try Data(contentsOf: URL(filePath: settings.program)) }
            installation = there.isEmpty ? "copied" : "copied, since \(there.joined(separator: " ")) is there"
            write(Array("\(copy.count)\n".utf8) + copy)
        } catch { fail("\(error)") }
    }

    // MARK: what it says

    private func take(_ report: AgentReport) {
        if state != .connecting { deadline?.schedule(at: reactor.now + Self.silence) }
        switch report {
        case .hello(let facts):
            self.facts = facts
            if let image = host.image { installation = "image \(image)" }
            if host.image == nil, host.destination == nil { installation = "this machine" }
            state = .comparingClocks
            deadline?.schedule(at: reactor.now + Self.silence)
            asking = reactor.timer { [weak self] in self?.ask() }
            compareClocks()
        case .clock(let number, let nanoseconds):
            guard number == question.number else { return }
            let roundTrip = (Reactor.clock() - question.at).nanoseconds
            if clock.count < Self.mostExchanges {
                clock.append(ClockExchange(asked: question.asked, roundTrip: roundTrip, answer: nanoseconds))
            }
            if burst > 0 { burst -= 1 }
            if burst > 0 { return ask() }
            if state == .comparingClocks { state = .ready }
            asking?.schedule(at: reactor.now + .seconds(1))
        default: onReport(self, report)
        }
    }

    /// Asks for the time several times in a row.
    func compareClocks() {
        guard !isOver, asking != nil else { return }
        burst = Self.exchanges
        ask()
    }

    private func ask() {
        question = (question.number + 1, Reactor.timeOfDay(), Reactor.clock())
        order(.clock(number: question.number))
        // An answer to an older question does not count; should it be lost, this goes on.
        asking?.schedule(at: reactor.now + .seconds(1))
    }

    func order(_ order: AgentOrder) { if !isOver { write(messageLine(order)) } }

    private func write(_ bytes: [UInt8]) { writer?.write(bytes) }

    // MARK: the end

    /// Has the agent end what it has started, and itself.
    func leave() {
        guard !isOver else { return }
        isLeaving = true
        order(.quit)
        if process == nil { end() }
    }

    /// Ends the connection; the agent notices, and ends as well.
    func abandon() {
        process?.send(SIGKILL)
        if !isOver { end() }
    }

    private func end() {
        deadline = nil
        asking = nil
        state = .ended
    }

    private func fail(_ reason: String) {
        guard !isOver else { return }
        deadline = nil
        asking = nil
        state = .failed(String(reason.prefix(300)))
        process?.send(SIGKILL)
        onFailure(self)
    }
}
