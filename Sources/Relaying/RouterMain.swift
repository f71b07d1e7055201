import AMT
import Glibc
import Logging
import Operation
import Reactor
import Transport

/// What `flexicast router` was asked to do: names of the interfaces that multicast comes in by and leaves by.
package struct RouterOptions: Sendable {
    package var upstream: String
    package var downstream: String
    package var json = false
    package var io: IOBackendChoice = .auto

    package init(upstream: String, downstream: String) {
        self.upstream = upstream
        self.downstream = downstream
    }
}

/// One thing that happened at a router.
private enum RouterEvent: EventLine {
    case listening
    case route(Channel, isWanted: Bool)

    var json: String {
        switch self {
        case .listening: event("listening")
        case .route(let channel, let isWanted):
            event(isWanted ? "route" : "prune", ["channel": "\(channel)"])
        }
    }

    var text: String? {
        switch self {
        case .listening: "listening for reports"
        case .route(let channel, let isWanted): "\(isWanted ? "forwarding" : "no longer forwarding") \(channel)"
        }
    }
}

/// Runs the multicast router of the demo until SIGTERM or SIGINT: the kernel forwards what the hosts downstream have
/// asked for in IGMPv3.
/// - Returns: the exit status, 0.
/// - Throws: an error that says what could not be set up.
package func runRouter(_ options: RouterOptions, log: Logger) throws -> Int32 {
    let reactor = try Reactor(io: .init(options.io))
    defer { reactor.close() }
    let output = EventOutput(style: options.json ? .json : .text)
    let router = try MulticastRouter(upstream: options.upstream, downstream: options.downstream)
    var membership = LinkMembership()
    try router.watchReports(on: reactor) { [unowned reactor] packet in
        for change in membership.packetReceived(packet.span, at: reactor.now) {
            let (isWanted, channel) =
                switch change {
                case .join(let channel): (true, channel)
                case .leave(let channel): (false, channel)
                }
            guard let source = channel.source else { continue }
            do throws(ReactorError) {
                try router.setForwarding(isWanted, from: source, to: channel.group)
                output.report(RouterEvent.route(channel, isWanted: isWanted))
            } catch { log.error("\(error)") }
        }
    }
    for signal in [SIGTERM, SIGINT] { try reactor.onSignal(signal) { [unowned reactor] in reactor.stop() } }
    output.report(RouterEvent.listening)
    reactor.run()
    output.flush()
    return 0
}
