import Feed
import FoundationEssentials
import Glibc
import Operation
import Reactor
import System
import Wire

// What each role is started with, what goes wrong, and what is shown meanwhile.

extension CampaignRun {
    /// The feed in the agent's directory.
    static let feedFile = "feed.atom"

    /// Hands the source's host what it polls, where that is a file.
    func putFeed() throws {
        let session = sessions[plan.source.host]
        switch plan.content {
        case .samples:
            session?.order(
                .put(file: Self.feedFile, text: String(decoding: SampleFeed.document(upTo: 0), as: UTF8.self)))
        case .feed(let feed) where !Self.isURL(feed):
            let data = try saying("read \(feed)") { try Data(contentsOf: URL(filePath: feed)) }
            guard data.count <= Plan.longestFeed else {
                throw EndpointError("\(feed) has more than \(Plan.longestFeed) octets")
            }
            session?.order(.put(file: Self.feedFile, text: String(decoding: data, as: UTF8.self)))
        case .feed: break
        }
    }

    private static func isURL(_ feed: String) -> Bool { feed.contains("://") }

    var sourceArguments: [String] {
        var arguments = ["source", "--json", "--listen", "\(plan.source.listen)", "--drain", "1s"]
        switch plan.content {
        case .feed(let feed) where Self.isURL(feed): arguments += ["--feed", feed]
        case .feed: arguments += ["--feed", "{directory}/\(Self.feedFile)", "--poll", "1s"]
        case .samples(let items, _, _):
            // Who is started anew gets all there was.
            arguments += ["--feed", "{directory}/\(Self.feedFile)", "--poll", "100ms", "--history", "\(items)"]
        }
        if let group = plan.source.group { arguments += ["--group", "\(group)"] }
        if let interface = plan.source.interface { arguments += ["--interface", interface] }
        return arguments + plan.source.options
    }

    func relayArguments(_ relay: Plan.Relay) -> [String] {
        ["relay", "--json", "--listen", "\(relay.listen)", "--drain", "1s"]
            + (relay.upstream.map { ["--upstream", $0] } ?? []) + relay.options
    }

    func receiverArguments(_ receiver: Plan.Receiver) -> [String] {
        var arguments = ["receive", "\(plan.source.address)", "--json", "--path", receiver.path.rawValue]
        // The source said what it can be known by; ssh has kept that from being changed on its way.
        if let certificate { arguments += ["--trust", certificate] }
        if let interface = receiver.interface { arguments += ["--interface", interface] }
        if let relay = plan.relay, receiver.path == .amt || receiver.path == .auto {
            arguments += ["--relay", "\(relay.address)"]
        }
        return arguments + receiver.options
    }

    // MARK: faults

    /// The timers of a fault and of its end.
    func schedule(_ fault: Plan.Fault, start: Instant) -> [TimerHandle] {
        var timers = [
            reactor.timer(at: start + fault.at) { [unowned self] in
                happen(fault.title)
                begin(fault)
            }
        ]
        if let lasting = fault.lasting {
            timers.append(
                reactor.timer(at: start + fault.at + lasting) { [unowned self] in
                    happen(fault.endTitle)
                    undo(fault)
                })
        }
        return timers
    }

    private func happen(_ title: String) {
        faults.append(CampaignFacts.Fault(title: title, began: Reactor.timeOfDay()))
        say(title)
    }

    private func begin(_ fault: Plan.Fault) {
        switch fault.kind {
        case .cut(let host): sessions[host]?.order(.cut(matches: flowMatches))
        case .kill(let name): if let role = role(name) { end(role, by: SIGKILL) }
        case .stop(let name): if let role = role(name) { end(role, by: SIGTERM) }
        }
    }

    private func end(_ role: RoleState, by signal: Int32) {
        role.isGone = true
        stop(role, by: signal)
    }

    private func undo(_ fault: Plan.Fault) {
        switch fault.kind {
        case .cut(let host): sessions[host]?.order(.heal)
        case .kill(let name), .stop(let name):
            guard let role = role(name), !role.isRunning else { return }
            // It is given everything anew.
            role.items = 0
            begin(role)
        }
    }

    /// What nftables knows the flow by: its group, and the relay that it comes from.
    private var flowMatches: [String] {
        var matches: [String] = []
        if let group = plan.source.group {
            matches.append("\(group.address.isIPv4 ? "ip" : "ip6") daddr \(group.address)")
        }
        if let relay = plan.relay?.address {
            matches.append("\(relay.address.isIPv4 ? "ip" : "ip6") saddr \(relay.address) udp sport \(relay.port)")
        }
        return matches
    }

    // MARK: the view

    /// The lines of the view, of 80 columns.
    func drawing() -> [String] {
        let column = { (text: String, width: Int) in
            text.count >= width
                ? String(text.prefix(width - 1)) + " " : text + String(repeating: " ", count: width - text.count)
        }
        var lines = ["campaign \(plan.name): \(phase)", ""]
        let sent = role(Plan.sourceName)?.items ?? 0
        if roles.isEmpty {
            lines += plan.hosts.map { host in
                let state = sessions[host.name].map { "\($0.state)" } ?? ""
                return "  " + column(host.name, 20) + (sessions[host.name]?.failure ?? state)
            }
        }
        // Who has trouble comes first: with many there is no room for all.
        let order =
            roles.filter { $0.facts.kind != .receiver }
            + receivers.sorted {
                ($0.facts.failure == nil ? 1 : 0, $0.items) < ($1.facts.failure == nil ? 1 : 0, $1.items)
            }
        for role in order {
            let items =
                role.facts.kind == .relay ? "" : role.facts.kind == .source ? "\(sent)" : "\(role.items) of \(sent)"
            let state =
                role.facts.failure
                ?? (role.isRunning ? role.way : role.isGone ? "ended on purpose" : "\(role.progress)")
            lines.append("  " + column(role.name, 20) + column(items, 16) + state)
        }
        return lines
    }
}

extension Duration {
    /// As a plan has it, such as `250ms` or `5s`.
    var shortText: String {
        let milliseconds = self / .milliseconds(1)
        return milliseconds >= 1000
            ? "\(fixed(milliseconds / 1000, milliseconds.truncatingRemainder(dividingBy: 1000) == 0 ? 0 : 1))s"
            : "\(fixed(milliseconds, milliseconds < 1 ? 3 : 0))ms"
    }
}
