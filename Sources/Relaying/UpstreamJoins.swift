import AMT
import Logging
import Operation
import Reactor
import Wire

/// Joins of groups that nobody reads by a socket of their own: they make the network, and the interface, carry the packets
/// that a `PacketCapture` sees. The kernel allows a socket 20 groups of 10 sources, so that they are spread over many.
final class UpstreamJoins {
    /// `net.ipv4.igmp_max_memberships`, its default.
    static let groupsPerSocket = 20
    /// `net.ipv4.igmp_max_msf`, its default; IPv6 allows more.
    static let sourcesPerGroup = 10

    /// What cannot be joined, for lack of an interface or of room in the kernel, is tried again after this.
    static let retryInterval = Duration.seconds(5)

    private struct Shard {
        var socket: UDPSocket
        /// By group: any source, or some sources.
        var channels: [IPAddress: Set<Channel>] = [:]

        func hasRoom(for channel: Channel) -> Bool {
            guard let others = channels[channel.group] else { return channels.count < groupsPerSocket }
            return channel.source != nil && others.count < sourcesPerGroup
                && !others.contains(Channel(source: nil, group: channel.group))
        }
    }

    private unowned let reactor: Reactor
    private let interface: String?
    private let log: Logger
    private var shards: [Shard] = []
    private(set) var count = 0
    /// Joins that failed at first.
    private(set) var failures: UInt64 = 0
    private var failed: Set<Channel> = []
    private var failureLog = LogBudget()
    private var changeLog = LogBudget()
    private var timer: TimerHandle?

    init(interface: String?, reactor: Reactor, log: Logger) {
        self.interface = interface
        self.reactor = reactor
        self.log = log
        timer = reactor.timer { [unowned self] in retry() }
    }

    func join(_ channel: Channel) {
        guard !attempt(channel) else { return }
        failures += 1
        if failed.isEmpty { timer?.schedule(at: reactor.now + Self.retryInterval) }
        failed.insert(channel)
    }

    private func retry() {
        failed = failed.filter { !attempt($0) }
        if !failed.isEmpty { timer?.schedule(at: reactor.now + Self.retryInterval) }
    }

    private func attempt(_ channel: Channel) -> Bool {
        do throws(ReactorError) {
            let index = try shard(for: channel)
            try shards[index].socket.join(group: channel.group, source: channel.source, interface: interface)
            shards[index].channels[channel.group, default: []].insert(channel)
            count += 1
            tell("joined", channel)
            return true
        } catch {
            if failureLog.take(at: reactor.now) {
                log.error("cannot join", metadata: ["channel": "\(channel)", "reason": "\(error)"])
            }
            return false
        }
    }

    /// Joins everything anew, since interfaces are others now. What was joined stays so until then.
    func joinAgain() {
        let old = shards
        let channels = old.flatMap { $0.channels.values.joined() } + failed
        shards = []
        failed = []
        count = 0
        for channel in channels { join(channel) }
        for shard in old { shard.socket.close() }
    }

    func leave(_ channel: Channel) {
        guard failed.remove(channel) == nil else { return }
        let found = shards.firstIndex { $0.channels[channel.group]?.contains(channel) ?? false }
        guard let index = found else { return }
        shards[index].channels[channel.group]?.remove(channel)
        if shards[index].channels[channel.group]?.isEmpty ?? false { shards[index].channels[channel.group] = nil }
        count -= 1
        tell("left", channel)
        do throws(ReactorError) {
            try shards[index].socket.leave(group: channel.group, source: channel.source, interface: interface)
        } catch {
            if failureLog.take(at: reactor.now) {
                log.warning("cannot leave", metadata: ["channel": "\(channel)", "reason": "\(error)"])
            }
        }
        guard shards[index].channels.isEmpty else { return }
        shards[index].socket.close()
        shards.remove(at: index)
    }

    /// Gateways make us join and leave as often as they like: the log has a budget.
    private func tell(_ what: String, _ channel: Channel) {
        guard changeLog.take(at: reactor.now) else { return }
        log.info("\(what)", metadata: ["channel": "\(channel)", "untold": "\(changeLog.untold)"])
    }

    func close() {
        timer = nil
        for shard in shards { shard.socket.close() }
        shards = []
        count = 0
    }

    private func shard(for channel: Channel) throws(ReactorError) -> Int {
        let isIPv4 = channel.group.isIPv4
        let index = shards.firstIndex { shard in
            shard.socket.localAddress.address.isIPv4 == isIPv4 && shard.hasRoom(for: channel)
        }
        if let index { return index }
        var options = UDPOptions()
        // Its port is nobody's: nothing is ever received.
        options.receiveBuffer = nil
        options.sendBuffer = nil
        options.coalesce = false
        options.sendArena = 0
        let any = SocketAddress(isIPv4 ? .v4(0) : .v6(0), port: 0)
        shards.append(Shard(socket: try reactor.udpSocket(bind: any, options: options)))
        return shards.count - 1
    }
}
