import Cryptography
import Flexicast
import Logging
import QUIC
import Reactor
import Wire

/// A member without a connection: its session with the source has gone the ordinary way to READY, and takes its
/// acknowledgements as a connection would hand them on.
struct TrialMember {
    private var session: SourceSession

    /// The path of the only flow.
    private static let path: UInt64 = 1

    init(_ flow: inout FlowSource, at now: Instant) throws {
        session = SourceSession(support: FlexicastSupport(), maximumPathID: Self.path, at: now)
        session.announce(flow.flowID, flow.parameters)
        flow.attach(at: now)
        try receive(StateFrame(flowID: flow.flowID, sequence: 0, action: .join))
        for key in flow.joined(at: now) { session.sendKey(flow.flowID, key) }
        try receive(StateFrame(flowID: flow.flowID, sequence: 1, action: .ready))
        let endless: UInt64 = 1 << 60
        guard let id = flow.add(streamWindow: endless, octets: endless, streams: endless, at: now) else {
            throw EndpointError("the flow takes no more than \(flow.memberCount) members")
        }
        session.becameMember(flow.flowID, id)
        while session.nextAction() != nil {}
    }

    private mutating func receive(_ frame: StateFrame) throws {
        let octets = frame.encoded
        // A connection has read the type, of two octets, before it asks the session.
        _ = try session.frameReceived(type: FlexicastFrameType.state, body: octets.span.extracting(2..<octets.count))
    }

    mutating func acknowledge(_ ranges: [ClosedRange<UInt64>], _ flow: inout FlowSource, at now: Instant) {
        session.now = now
        do throws(TransportError) {
            try session.pathAcknowledged(pathID: Self.path, ranges: ranges, ackDelay: .zero)
            while let action = session.nextAction() {
                guard case .acknowledged(_, let member, let ranges, let delay) = action else { continue }
                try flow.acknowledged(member, ranges: ranges, ackDelay: delay, at: now)
            }
        } catch {
            preconditionFailure("a member acknowledged what was not sent: \(error)")
        }
    }
}

/// Hears the flow on a reactor of its own, opens every packet and remembers which came.
final class TrialEar {
    let charged: ChargedReactor
    private let reception: FlowReception
    private let heard = Box()
    var opened: UInt64 { heard.packets.count }
    var ranges: [ClosedRange<UInt64>] { heard.packets.ranges }

    /// Shared with the closure that hears, one access a packet.
    private final class Box { var packets = Heard() }

    init(_ options: FlowTrialOptions, flow: FlowSource, origin: IPAddress) throws {
        charged = try ChargedReactor(io: options.io, splitsTime: options.splitsTime)
        reception = try FlowReception(
            flow.flowID, source: nil, group: options.group, access: FlowAccess(interface: options.interface),
            reactor: charged.reactor, log: Logger(label: "trial") { _ in SwiftLogNoOpLogHandler() })
        reception.install(flow.currentKey)
        reception.onPacket = { [heard] _, packetNumber, _, _ in
            heard.packets.note(packetNumber)
            return true
        }
    }

    func install(_ key: FlowKey) {
        reception.install(key)
        if key.generation > 1 { reception.drop(key.generation - 2) }
    }

    func close() {
        reception.close()
        charged.reactor.close()
    }
}

/// Which packets were opened.
private struct Heard {
    private(set) var count: UInt64 = 0
    /// Packet numbers, highest first; old ones are forgotten.
    private(set) var ranges: [ClosedRange<UInt64>] = []
    private static let limit = 64

    init() { ranges.reserveCapacity(Self.limit + 1) }

    mutating func note(_ packetNumber: UInt64) {
        count += 1
        guard let newest = ranges.first else {
            ranges.append(packetNumber...packetNumber)
            return
        }
        // Older than the newest: reordered, which one machine does not do.
        guard packetNumber > newest.upperBound else { return }
        if packetNumber == newest.upperBound + 1 {
            ranges[0] = newest.lowerBound...packetNumber
        } else {
            ranges.insert(packetNumber...packetNumber, at: 0)
            if ranges.count > Self.limit { ranges.removeLast() }
        }
    }
}
