import AMT
import Glibc
import Logging
import Operation
import Reactor
import Transport
import Wire

// `flexicast gateway --verify`: is this relay up, and does this channel flow?

/// What `flexicast gateway --verify` found.
package struct GatewayFindings: Sendable {
    /// What was asked for.
    package var channel: String
    /// The relay that answered; empty when none did.
    package var relay = ""
    /// From the start to the Relay Advertisement; nil when a relay was asked directly or none answered.
    package var discovery: Duration?
    /// From the start to the Membership Update that asked for the channel.
    package var join: Duration?
    /// From that Update to the first packet.
    package var firstPacket: Duration?
    /// UDP packets that came.
    package var packets = 0
    /// Octets of UDP payload.
    package var bytes = 0
    /// Octets of the largest IP packet that came whole.
    package var largestPacket = 0
    /// Fragments that came: the source sends more than the tunnel takes (RFC 7450 section 5.3.3.6.2).
    package var fragments = 0
    /// Packets that did not come, for payloads with sequence numbers (RTP, RFC 3550 section 5.1); else nil.
    package var lost: Int?
    /// Packets that came after a later one; nil without sequence numbers.
    package var reordered: Int?
    /// Data that was damaged.
    package var damaged = 0
}

extension GatewayFindings: EventLine {
    package var json: String {
        event(
            "verified",
            [
                "channel": channel, "relay": relay, "discovery_ms": discovery, "join_ms": join,
                "first_packet_ms": firstPacket, "packets": packets, "bytes": bytes, "largest_packet": largestPacket,
                "fragments": fragments, "damaged": damaged, "lost": lost, "reordered": reordered,
            ])
    }

    /// A line for people; nil: nothing to say.
    package var text: String? {
        func milliseconds(_ duration: Duration) -> String { "\(duration.nanoseconds / 1_000_000) ms" }
        var lines: [String] = []
        if let join {
            let found = discovery.map { ", discovered after \(milliseconds($0))" } ?? ""
            lines.append("relay     \(relay)\(found)")
            lines.append("join      asked for \(channel) after \(milliseconds(join))")
        } else if !relay.isEmpty {
            lines.append("relay     \(relay) is known, but does not answer Requests")
        } else {
            lines.append("relay     no answer")
        }
        if let firstPacket {
            lines.append("data      first packet \(milliseconds(firstPacket)) after the join")
            lines.append("          \(packets) packets, \(bytes) B, largest IP packet \(largestPacket) B")
            if fragments > 0 {
                lines.append("          \(fragments) fragments: the source sends more than the tunnel takes")
            }
            let sequence = lost.map { "\($0) lost, \(reordered ?? 0) out of order" }
            lines.append("sequence  " + (sequence ?? "no sequence numbers that can be read"))
        } else if join != nil {
            lines.append("data      nothing came")
        }
        return lines.joined(separator: "\n")
    }
}

/// Joins one channel at a relay, listens for a while and tells what it found.
/// - Parameters:
///   - duration: how long to listen.
/// - Returns: the exit status: 0 when packets came, 2 when the relay answers but nothing came, 1 when it does not answer.
/// - Throws: an error that says what could not be set up.
package func runVerify(_ options: GatewayOptions, duration: Duration, log: Logger) throws -> Int32 {
    guard let (channel, port) = options.channels.first else { throw EndpointError("no channel to verify") }
    let reactor = try Reactor(io: .init(options.io))
    defer { reactor.close() }
    let verification = try Verification(channel, port: port, relay: options.relay, reactor: reactor, log: log)
    for signal in [SIGTERM, SIGINT] { try reactor.onSignal(signal) { [unowned reactor] in reactor.stop() } }
    let end = reactor.timer(at: reactor.now + duration) { [unowned reactor] in reactor.stop() }
    reactor.run()
    end.cancel()
    let findings = verification.finish()
    let output = EventOutput(style: options.json ? .json : .text)
    output.report(findings)
    output.flush()
    return findings.packets > 0 ? 0 : findings.join != nil ? 2 : 1
}

private final class Verification: TunnelHandler {
    private var findings: GatewayFindings
    private var sequence = SequenceWatch()
    private let tunnel: AMTTunnel
    private let reactor: Reactor
    private let start: Instant
    private var joinedAt: Instant?

    init(_ channel: Channel, port: UInt16?, relay: RelayChoice, reactor: Reactor, log: Logger) throws {
        self.reactor = reactor
        findings = GatewayFindings(channel: "\(channel)")
        start = Reactor.clock()
        tunnel = try AMTTunnel(
            relay: relay, source: channel.source, family: channel.group.isIPv4 ? .ipv4 : .ipv6, reactor: reactor,
            log: log)
        tunnel.onEvent = { [unowned self] event in
            switch event {
            case .relayFound(let relay) where findings.relay.isEmpty:
                findings.relay = "\(relay)"
                findings.discovery = reactor.now - start
            case .joined(let relay) where joinedAt == nil:
                findings.relay = "\(relay)"
                joinedAt = reactor.now
                findings.join = reactor.now - start
            default: break
            }
        }
        guard tunnel.subscribe(channel, port: port, handler: self) else {
            throw EndpointError("\(channel) cannot be asked for")
        }
    }

    func tunnelPacketReceived(
        _ payload: inout MutableSpan<UInt8>, from source: SocketAddress, to group: SocketAddress, ecn: ECN,
        hopLimit: UInt8
    ) {
        if let joinedAt, findings.firstPacket == nil { findings.firstPacket = reactor.now - joinedAt }
        findings.packets += 1
        findings.bytes += payload.count
        let headers = (group.address.isIPv4 ? 20 : 40) + UDPHeader.length
        findings.largestPacket = max(findings.largestPacket, payload.count + headers)
        sequence.take(payload.span)
    }

    func tunnelBatchEnded() {}

    func finish() -> GatewayFindings {
        findings.fragments = Int(tunnel.gateway.counters.fragments)
        findings.damaged = Int(tunnel.gateway.counters.damaged)
        (findings.lost, findings.reordered) = (sequence.result?.lost, sequence.result?.reordered)
        tunnel.close()
        return findings
    }
}
