import Feed
import FoundationEssentials
import Glibc
import Operation
import Reactor
import System
import Wire

/// A campaign's hand on a host: starts the roles' processes, passes on what they say, and ends them when whoever gave the orders
/// has gone. Orders come on standard input; their end ends everything.
package final class Agent {
    /// The start of its directory's name: no other directory is removed.
    static let directoryPrefix = "flexicast-campaign."
    static let longestOrder = Plan.longestFeed * 2 + 4096
    /// Nothing heard for so long is as good as the end: the network may have gone without a word.
    static let patience = Duration.seconds(30)
    /// Between being asked to end and being ended.
    static let grace = Duration.seconds(3)
    /// How often multicast was cut.
    private var cuts = 0

    private let reactor: Reactor
    private let output: OutputWriter
    private let directory: URL
    private let program: String
    private var processes: [String: AgentProcess] = [:]
    private var filter: ChildFilter?
    private var growth: (timer: TimerHandle, published: Int)?
    private var patience: TimerHandle?
    private var usage: TimerHandle?
    private var killing: TimerHandle?

    /// Runs an agent until its orders end.
    /// - Parameters:
    ///   - version: what it says of itself.
    ///   - directory: it is removed at the end; one is made when there is none.
    /// - Throws: when it cannot begin.
    package static func run(version: String, directory: String?) throws {
        let agent = try Agent(directory: directory)
        agent.report(.hello(HostFacts(version: version)))
        agent.reactor.run()
        agent.output.flush()
        agent.reactor.close()
    }

    private init(directory: String?) throws {
        reactor = try Reactor()
        let mine = URL.temporaryDirectory.appending(path: "\(Self.directoryPrefix)\(getpid())")
        self.directory = directory.map { URL(filePath: $0) } ?? mine
        try makeDirectories(self.directory.path)
        program = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        output = OutputWriter()
        var splitter = LineSplitter(longest: Self.longestOrder)
        try reactor.watch(STDIN_FILENO) { [unowned self] watch in
            var bytes: [UInt8] = []
            guard let outcome = try? watch.read(appendingTo: &bytes), outcome != .end else {
                watch.cancel()
                return quit()
            }
            waitAnew()
            for line in splitter.lines(adding: bytes) { obey(line) }
        }
        for signal in [SIGTERM, SIGINT, SIGHUP] { try reactor.onSignal(signal) { [unowned self] in quit() } }
        patience = reactor.timer { [unowned self] in quit() }
        usage = reactor.timer { [unowned self] in tellUsage() }
        usage?.schedule(at: reactor.now + .seconds(1))
        waitAnew()
    }

    private func waitAnew() { patience?.schedule(at: reactor.now + Self.patience) }

    private func report(_ report: AgentReport) { output.write(messageLine(report)) }

    private func obey(_ line: String) {
        guard !line.isEmpty else { return }
        guard let order = message(AgentOrder.self, of: line) else {
            return report(.failed(what: "an order", reason: "it cannot be read: \(line.prefix(100))"))
        }
        switch order {
        case .clock(let number): report(.clock(number: number, nanoseconds: Reactor.timeOfDay()))
        case .start(let role, let arguments): trying("start \(role)") { try start(role, arguments) }
        case .signal(let role, let number): processes[role]?.send(number)
        case .put(let file, let text): trying("write \(file)") { try put(file, Array(text.utf8)) }
        case .grow(let file, let items, let milliseconds, let size):
            grow(file, items: items, interval: .microseconds(Int64(max(1, milliseconds * 1000))), size: size)
        case .cut(let matches): trying("cut") { try cut(matches) }
        case .heal:
            filter?.end()
            filter = nil
        case .quit: quit()
        }
    }

    private func trying(_ what: String, _ body: () throws -> Void) {
        do { try body() } catch { report(.failed(what: what, reason: "\(error)")) }
    }

    // MARK: files

    private func put(_ file: String, _ bytes: [UInt8]) throws {
        let place = directory.appending(path: URL(filePath: file).lastPathComponent)
        try saying("write \(place.path)") { try Data(bytes).write(to: place, options: .atomic) }
    }

    private func grow(_ file: String, items: Int, interval: Duration, size: Int?) {
        var next = reactor.now
        let timer = reactor.timer { [unowned self] in
            guard let published = growth?.published, published < items else { return }
            growth?.published += 1
            trying("write \(file)") {
                try put(file, SampleFeed.document(upTo: published + 1, window: Self.feedWindow, size: size))
            }
            next = next + interval
            growth?.timer.schedule(at: next)
        }
        growth = (timer, 0)
        timer.schedule(at: next)
    }

    /// How many items the feed has at a time: it is polled far more often than so many come.
    private static let feedWindow = 200

    // MARK: processes

    private func start(_ role: String, _ arguments: [String]) throws {
        guard processes[role] == nil else { throw EndpointError("it runs already") }
        let words = arguments.map { $0.replacing("{directory}", with: directory.path) }
        // Should this agent be killed, what it started goes with it.
        let setpriv = "/usr/bin/setpriv"
        let isThere = FileManager.default.isExecutableFile(atPath: setpriv)
        let prefix = isThere ? [setpriv, "--pdeathsig", "KILL", "--"] : []
        processes[role] = try AgentProcess(prefix + [program] + words, on: reactor) { [unowned self] event in
            let now = Reactor.timeOfDay()
            switch event {
            case .line(let text): report(.line(role: role, nanoseconds: now, text: text))
            case .log(let text): report(.log(role: role, text: text))
            case .ended(let status):
                processes[role] = nil
                report(.ended(role: role, nanoseconds: now, status: status))
                stopWhenAlone()
            }
        }
    }

    private func tellUsage() {
        for (role, process) in processes {
            guard let (milliseconds, octets) = process.usage() else { continue }
            report(.usage(role: role, processorMilliseconds: milliseconds, memoryOctets: octets))
        }
        usage?.schedule(at: reactor.now + .seconds(1))
    }

    // MARK: multicast that is cut

    /// The filter belongs to a process of nftables that has its orders from here: it goes with this agent, whatever ends it.
    private func cut(_ matches: [String]) throws {
        filter?.end()
        filter = nil
        guard
            let nft = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"].first(where: FileManager.default.isExecutableFile)
        else { throw EndpointError("nft is missing; apt-get install nftables") }
        // One of its own: that of another agent, or of a cut that is being undone, is not ours to change.
        cuts += 1
        let table = "flexicast_campaign_\(getpid())_\(cuts)"
        let rules = matches.map { "add rule inet \(table) input \($0) drop\n" }.joined()
        filter = try ChildFilter(
            [nft, "-i"],
            input: """
                add table inet \(table) { flags owner; }
                add chain inet \(table) input { type filter hook prerouting priority raw; }
                \(rules)
                """, on: reactor
        ) { [unowned self] complaint in report(.failed(what: "cut", reason: complaint)) }
    }

    // MARK: the end

    private var isQuitting = false

    private func quit() {
        guard !isQuitting else { return }
        isQuitting = true
        growth = nil
        filter?.end()
        filter = nil
        for process in processes.values { process.send(SIGTERM) }
        killing = reactor.timer(at: reactor.now + Self.grace) { [unowned self] in
            for process in processes.values { process.send(SIGKILL) }
        }
        stopWhenAlone()
    }

    private func stopWhenAlone() {
        guard isQuitting, processes.isEmpty else { return }
        if directory.lastPathComponent.hasPrefix(Self.directoryPrefix) {
            try? FileManager.default.removeItem(at: directory)
        }
        reactor.stop()
    }
}
