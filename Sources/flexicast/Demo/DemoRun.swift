import Cryptography
import Dispatch
import Feed
import FoundationEssentials
import Glibc
import Operation
import Reactor
import System
import Wire

/// One run of `flexicast demo`: network, processes, losses, a cut, the counts, the verdict.
///
/// Everything happens on the calling thread, driven by the events of the children and by deadlines.
final class DemoRun {
    private let settings: DemoSettings
    private let directory: URL
    private let network: DemoNetwork
    private let events = DemoEventQueue()
    private var feed: DemoFeed
    private var screen: TerminalView
    private var board: Scoreboard
    /// The source (0) and the receivers (1...).
    private var children: [Child] = []
    private var relay: Child?
    /// The routers between source and relay.
    private var routers: [Child] = []
    /// What the source had sent, each time it said so, since the first item.
    private var samples: [FigureSample] = []
    private var firstItemAt: ContinuousClock.Instant?
    private var isInterrupted = false
    /// What a child that ends means: before this is set, a failure.
    private var isStopping = false
    private var phase = "starting"
    private var pageAddress = ""
    private var nextDrawing = DispatchTime.now()
    private var problems: [String] = []

    /// The receiver whose multicast is cut halfway: the last on the flow. Nil without namespaces, or when nothing is cut.
    private var victim: Int? {
        network.loopbackReason == nil && settings.flowReceivers > 0 && !settings.wholeFeed
            ? settings.flowReceivers : nil
    }

    /// - Parameter title: said first, if the run is one of two.
    init(_ settings: DemoSettings, title: String? = nil) throws {
        self.settings = settings
        var screen = TerminalView()
        if let title { screen.say(title) }
        directory = try Self.makeDirectory()
        do {
            feed = try DemoFeed(
                file: directory.appending(path: "feed.atom"), count: settings.items, followsFeed: settings.feed != nil)
            network = try DemoNetwork(
                kind: settings.network, receivers: settings.flowReceivers + settings.unicastReceivers,
                routing: settings.amt ?? true ? settings.router : nil
            ) { screen.say($0) }
        } catch {
            try? FileManager.default.removeItem(at: directory)
            throw error
        }
        guard settings.amt != true || network.relayAddress != nil else {
            try? FileManager.default.removeItem(at: directory)
            throw DemoProblem("--amt needs network namespaces: \(network.loopbackReason ?? "")")
        }
        self.screen = screen
        let flowMode: ReceiverScore.Mode = network.relayAddress != nil ? .amt : .flow
        board = Scoreboard(
            receivers: (0..<settings.flowReceivers).map {
                ReceiverScore(name: "\(flowMode.rawValue)-\($0 + 1)", mode: flowMode)
            }
                + (0..<settings.unicastReceivers).map { ReceiverScore(name: "unicast-\($0 + 1)", mode: .unicast) })
    }

    /// Runs the demo to its end, or until it is interrupted.
    func run() throws -> DemoOutcome {
        let signals = watchSignals()
        defer { for signal in signals { signal.cancel() } }
        do {
            do {
                try start()
                try publish()
                try settle()
            } catch let interruption as DemoInterrupted {
                guard !board.source.sent.isEmpty else { throw interruption }
                isInterrupted = true
                screen.say("interrupted; once more ends it without a result")
                // What has not come by then is counted as missing.
                try pump(until: .now() + .seconds(10)) { _ in isEverythingThere }
            }
            try stop()
            try verify()
        } catch {
            screen.finish()
            abandon()
            cleanUp(keep: settings.keep || !(error is DemoInterrupted))
            throw error
        }
        screen.finish()
        network.tearDown()
        if !board.isPerfect { problems.append("something is missing, doubled or different") }
        cleanUp(keep: settings.keep || !problems.isEmpty)
        return DemoOutcome(
            settings: settings, board: board, samples: samples, problems: problems, isInterrupted: isInterrupted,
            network: network.loopbackReason == nil ? "namespaces" : "loopback")
    }

    // MARK: Phases

    private func start() throws {
        if let reason = network.loopbackReason {
            screen.say("no network namespaces (\(reason)): all on loopback, so nothing is lost and nothing is cut")
        }
        let certificate = directory.appending(path: "source.pem").path
        let address = network.sourceAddress
        // Bound here, where the user is, and served by the source, wherever that is.
        let page = try Reactor.listenTCP(.address(SocketAddress(.v4(0x7f00_0001), port: 0)))
        try startRouters()
        try launch(
            "source", at: 0,
            [
                "source", "--feed", feed.file.path, "--poll", "100ms", "--listen", "\(address)", "--group",
                "\(network.group)", "--interface", network.interface, "--write-certificate", certificate, "--json",
                "--io", settings.io, "--history", "\(max(settings.items, 1))",
                "--packet-size", "\(network.packetSize)", "--metrics", "-",
            ] + (settings.wholeFeed ? ["--whole-feed"] : []), input: OpenFile(owning: page.descriptor))
        var isListening = false
        try wait(seconds: 15, for: "the source to listen") { line in
            if line?.event == "listening" { isListening = true }
            return isListening
        }
        screen.say("source listens on \(address), flow to \(network.group)")
        pageAddress = "http://\(page.localAddress)/"
        screen.say("live page, as long as this runs: \(pageAddress)")

        try startRelay()
        for (index, receiver) in board.receivers.enumerated() {
            let place = index + 1
            if network.loopbackReason == nil, receiver.mode != .unicast {
                let isLossy = index < 2 && (place != victim || settings.flowReceivers < 3)
                board.receivers[index].lossPercent = isLossy ? settings.lossPercent : 0
                try network.filter(at: place, lossPercent: board.receivers[index].lossPercent)
            }
            try launch(
                receiver.name, at: place,
                [
                    "receive", "\(address)", "--trust", certificate, "--path",
                    Self.path(receiver.mode), "--interface", network.interface, "--output",
                    outputDirectory(receiver).path, "--json", "--io", settings.io,
                ] + (receiver.mode == .amt ? ["--relay", "\(network.relayAddress!)"] : []))
        }
        phase = "waiting for the receivers"
        try wait(seconds: 20, for: "every receiver to be ready") { _ in
            board.receivers.allSatisfy { $0.state == ($0.mode == .unicast ? .connected : .listening) }
        }
        let way = network.relayAddress != nil ? " through the relay" : ""
        let flow = settings.flowReceivers > 0 ? "\(settings.flowReceivers) receivers hear the flow\(way), " : ""
        screen.say(flow + "\(settings.unicastReceivers) are on unicast")
    }

    private func startRouters() throws {
        guard let routing = network.routing else { return }
        let first = board.receivers.count + 2
        for number in 0..<routing.routerCount {
            let name = "router-\(number + 1)"
            let command = try network.routerCommand(
                number, program: try executablePath(), directory: directory.appending(path: name))
            routers.append(
                try Child(
                    name: name, index: first + number, command: command, log: directory.appending(path: "\(name).log"),
                    events: events))
        }
        screen.say(routing.description)
    }

    /// The relay stands behind the receivers in `children`, so that a receiver's number is its place.
    private func startRelay() throws {
        guard let address = network.relayAddress else { return }
        let place = board.receivers.count + 1
        let command = network.command(
            [
                try executablePath(), "relay", "--listen", "\(address)", "--upstream", network.interface, "--json",
                "--drain", "1s", "--io", settings.io,
            ],
            at: place)
        relay = try Child(
            name: "relay", index: place, command: command, log: directory.appending(path: "relay.log"), events: events)
        var isListening = false
        try wait(seconds: 15, for: "the relay to listen") { line in
            if line?.event == "listening" { isListening = true }
            return isListening
        }
        screen.say("relay listens on \(address); the receivers' network, behind the last router, has no multicast")
    }

    private static func path(_ mode: ReceiverScore.Mode) -> String {
        switch mode {
        case .flow: "auto"
        case .amt: "amt"
        case .unicast: "unicast"
        }
    }

    private func publish() throws {
        let poller = try settings.feed.map { try follow($0, events: events) }
        defer { poller?.stop() }
        let begin = ContinuousClock.now
        firstItemAt = begin
        // How far the demo is, from 0 to 1. A real feed may bring less than was hoped for, so time counts as well.
        let progress = { [self] in
            let items = Double(feed.published) / Double(feed.count)
            return settings.feed == nil ? items : max(items, (ContinuousClock.now - begin) / settings.duration)
        }
        var next = DispatchTime.now()
        var isCut = false
        var isHealed = false
        while progress() < 1 {
            if feed.canGrow {
                try feed.grow()
                phase = "item \(feed.published) of \(settings.items)"
                if settings.items < 10 || feed.published % (settings.items / 10) == 0 { sayProgress() }
            }
            if let victim {
                if progress() >= 0.5, !isCut {
                    try cut(victim)
                    isCut = true
                }
                if progress() >= 0.75, !isHealed, board.receivers[victim - 1].fallbacks > 0 {
                    try heal(victim)
                    isHealed = true
                }
            }
            next = next + .nanoseconds(Int(settings.interval.wholeNanoseconds))
            try pump(until: next)
        }
        if let victim, !isHealed {
            try wait(seconds: 20, for: "\(board.receivers[victim - 1].name) to fall back") { _ in
                board.receivers[victim - 1].fallbacks > 0
            }
            try heal(victim)
        }
    }

    private func cut(_ victim: Int) throws {
        try network.setCut(true, at: victim)
        board.receivers[victim - 1].isCut = true
        screen.say("\(board.receivers[victim - 1].name): multicast is cut")
    }

    private func heal(_ victim: Int) throws {
        try network.setCut(false, at: victim)
        board.receivers[victim - 1].isCut = false
        screen.say("\(board.receivers[victim - 1].name): multicast is healed")
    }

    private var isEverythingThere: Bool {
        board.source.sent.count >= feed.published && board.everyoneHasEverything
    }

    /// Waits until everyone has everything, and a little longer for what should not come.
    private func settle() throws {
        phase = "waiting for the last items"
        // Late is as good as missing: what is not there in time is counted from the files.
        let everything = { [self] in
            isEverythingThere && (victim.map { board.receivers[$0 - 1].returns > 0 } ?? true)
        }
        do {
            try wait(seconds: 30, for: "the last items") { _ in everything() }
        } catch is DemoTimeout {
            screen.say("not everything arrived within 30 seconds")
        }
        if let victim, board.receivers[victim - 1].returns == 0 {
            problems.append("\(board.receivers[victim - 1].name) fell back and did not return to the flow")
        }
        if board.source.sent.isEmpty { problems.append("not one item came") }
        phase = "looking for doubles"
        try pump(until: .now() + .milliseconds(700))
    }

    /// Ends the receivers, then the source, and takes their summaries.
    private func stop() throws {
        phase = "stopping"
        isStopping = true
        for (place, receiver) in board.receivers.enumerated() where receiver.lossPercent > 0 {
            let lost = try network.packetsLost(at: place + 1)
            screen.say("\(receiver.name): \(lost) packets of the flow were dropped on their way to it")
        }
        // The route goes when nobody downstream wants the flow any more.
        let packetsRouted = try network.packetsRouted()
        for child in children.dropFirst() { child.terminate() }
        try wait(seconds: 10, for: "the receivers to end") { _ in !children.dropFirst().contains { $0.isRunning } }
        // The last counts cover the whole run only when the receivers have gone.
        children[0].terminate()
        try wait(seconds: 10, for: "the source to end") { _ in !children[0].isRunning }
        if let relay {
            relay.terminate()
            try wait(seconds: 10, for: "the relay to end") { _ in !relay.isRunning }
            board.packetsRouted = packetsRouted
        }
        for router in routers { router.kill() }
    }

    /// Compares every file with the document the source sent and with what the feed says.
    private func verify() throws {
        var latest: [String: String] = [:]
        for version in board.source.sent { latest[itemFileName(version.id)] = version.sha256 }
        let contents = try feed.contents()
        // What the feed has and the source never sent is missing everywhere: no file can be right.
        for name in contents.keys where latest[name] == nil { latest[name] = "" }
        for (index, receiver) in board.receivers.enumerated() {
            let output = outputDirectory(receiver)
            let names = (try? FileManager.default.contentsOfDirectory(atPath: output.path)) ?? []
            var files: [String: String] = [:]
            for name in names where name.hasSuffix(".xml") {
                let bytes = try Array(Data(contentsOf: output.appending(path: name)))
                let item = try? FeedParser.parseEntry(bytes)
                files[name] =
                    item?.ownContent == contents[name] ? "\(SHA256Digest(of: bytes))" : "not as the feed has it"
            }
            (board.receivers[index].missing, board.receivers[index].corrupt) = compare(files: files, with: latest)
        }
    }

    // MARK: Children

    private func launch(_ name: String, at place: Int, _ arguments: [String], input: OpenFile? = nil) throws {
        let command = network.command([try executablePath()] + arguments, at: place)
        let log = directory.appending(path: "\(name).log")
        children.append(try Child(name: name, index: place, command: command, input: input, log: log, events: events))
    }

    /// The source is 0, receivers follow, then the relay and the routers.
    private func child(_ index: Int) -> Child {
        let relayIndex = board.receivers.count + 1
        if index > relayIndex { return routers[index - relayIndex - 1] }
        return index == relayIndex ? relay ?? children[0] : children[index]
    }

    private func outputDirectory(_ receiver: ReceiverScore) -> URL { directory.appending(path: receiver.name) }

    /// Handles events until `deadline`, or until `isDone` says so; it is asked before the first event and after each.
    @discardableResult
    private func pump(until deadline: DispatchTime, isDone: (ChildLine?) -> Bool = { _ in false }) throws -> Bool {
        if isDone(nil) { return true }
        while true {
            if DispatchTime.now() >= nextDrawing { draw() }
            guard let event = events.next(before: min(deadline, nextDrawing)) else {
                if DispatchTime.now() >= deadline { return false }
                continue
            }
            if isDone(try handle(event)) { return true }
        }
    }

    private func wait(seconds: Int, for what: String, until isDone: (ChildLine?) -> Bool) throws {
        if try pump(until: .now() + .seconds(seconds), isDone: isDone) { return }
        throw DemoTimeout("waited \(seconds) seconds for \(what) in vain" + logTails())
    }

    private func handle(_ event: DemoEvent) throws -> ChildLine? {
        switch event {
        case .line(let index, let text):
            guard let line = try? ChildLine(json: text) else {
                throw DemoProblem("\(child(index).name) printed what is no event: \(text.prefix(200))")
            }
            if index == 0 {
                board.source.apply(line)
                if line.bytesFlow != nil, let firstItemAt {
                    samples.append(FigureSample(board, at: ContinuousClock.now - firstItemAt))
                }
            } else if index <= board.receivers.count {
                apply(line, to: index - 1)
            }
            return line
        case .closed: return nil
        case .exited(let index, let status):
            child(index).ended()
            // A router is ended by force.
            guard !isStopping || (status != 0 && index <= board.receivers.count + 1) else { return nil }
            let how = status < 0 ? "was ended by signal \(-status)" : "ended with status \(status)"
            throw DemoProblem("\(child(index).name) \(how)\n\(child(index).logTail())")
        case .items(let items):
            feed.add(items)
            return nil
        case .message(let text):
            screen.say(text)
            return nil
        case .interrupted: throw DemoInterrupted()
        }
    }

    private func apply(_ line: ChildLine, to index: Int) {
        board.receivers[index].apply(line)
        let name = board.receivers[index].name
        switch line.event {
        case "fallback": screen.say("\(name): fell back to unicast (\(line.reason ?? "no reason given"))")
        case "return": screen.say("\(name): on the flow again")
        default: break
        }
    }

    private func sayProgress() {
        let late = board.receivers.filter { board.behind($0) > 1 }
        // Everybody a little late is a busy machine; somebody late is news.
        let names = late.count > 3 ? [] : late.map { "; \($0.name) lacks \(board.behind($0))" }
        screen.say("item \(feed.published) of \(settings.items)" + names.joined())
    }

    private func draw() {
        let progress = Double(feed.published) / Double(max(settings.items, 1))
        let filled = Int(40 * min(max(progress, 0), 1))
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: 40 - filled)
        let heading = "\(screen.clock)  [\(bar)]  \(phase)"
        let note = pageAddress.isEmpty ? "" : "       \(pageAddress)"
        screen.draw { board.view(heading: heading, note: note, recent: $0, lines: $1) }
        nextDrawing = .now() + .milliseconds(100)
    }

    // MARK: Ends

    /// SIGINT and SIGTERM become events, so that nothing is left behind.
    private func watchSignals() -> [any DispatchSourceSignal] {
        // Who stops reading what we print does not stop the demo.
        signal(SIGPIPE, SIG_IGN)
        return [SIGINT, SIGTERM, SIGHUP].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { [events] in events.push(.interrupted) }
            source.resume()
            return source
        }
    }

    /// After a failure: every child ends now.
    private func abandon() {
        for child in children { child.kill() }
        relay?.kill()
        for router in routers { router.kill() }
        isStopping = true
        let deadline = DispatchTime.now() + .seconds(5)
        while children.contains(where: \.isRunning), let event = events.next(before: deadline) {
            if case .exited(let index, _) = event { child(index).ended() }
        }
        network.tearDown()
    }

    private func cleanUp(keep: Bool) {
        guard keep else {
            try? FileManager.default.removeItem(at: directory)
            return
        }
        // The new name says that this is no leftover.
        let kept = directory.deletingLastPathComponent().appending(path: Self.keptName)
        let place = (try? FileManager.default.moveItem(at: directory, to: kept)) == nil ? directory : kept
        screen.print(["logs and items are in \(place.path)"])
    }

    private func logTails() -> String {
        children.map { "\n\($0.name):\n\($0.logTail(lines: 2))" }.joined()
    }

    private static let namePrefix = "flexicast-demo-run-"
    private static let keptName = "flexicast-demo-kept-\(UUID().uuidString.prefix(8))"

    /// A directory that says whose it is. Those of runs that died before they could clean up are removed.
    private static func makeDirectory() throws -> URL {
        let parent = FileManager.default.temporaryDirectory
        for name in (try? FileManager.default.contentsOfDirectory(atPath: parent.path)) ?? []
        where name.hasPrefix(namePrefix) {
            guard let process = Int32(name.dropFirst(namePrefix.count)), process != getpid(),
                FileManager.default.fileExists(atPath: "/proc/\(process)")
            else {
                try? FileManager.default.removeItem(at: parent.appending(path: name))
                continue
            }
        }
        let directory = parent.appending(path: namePrefix + String(getpid()))
        try saying("make \(directory.path)") {
            try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
        }
        return directory
    }

    /// This very program, whatever it was called as.
    private func executablePath() throws -> String {
        try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    }
}

extension Duration {
    var wholeNanoseconds: Int64 {
        let (seconds, attoseconds) = components
        return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
    }
}
