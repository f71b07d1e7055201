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

/// A whole receiver on a reactor of its own, connected to a source that serves nobody else: it hears the flow, opens every
/// packet, takes its frames, gathers items, grants credit and acknowledges.
final class TrialEar {
    let charged: ChargedReactor
    private let source: Source
    private let receiver: Receiver
    /// Items that came whole, and their octets.
    private(set) var items: UInt64 = 0
    private(set) var itemOctets: UInt64 = 0
    /// It has left the flow, or its connection has ended: nothing more would come.
    private(set) var isLost = false
    var opened: UInt64 { receiver.peer.extension.statistics.packetsOpened }
    var isMember: Bool { source.counts.members == 1 }

    init(_ options: FlowTrialOptions, sender: FlowSender, origin: IPAddress, reactor: Reactor) throws {
        charged = try ChargedReactor(io: options.io, splitsTime: options.splitsTime)
        Meters.keepHeap(Receiver.maxItemOctets)
        let log = Logger(label: "trial") { _ in SwiftLogNoOpLogHandler() }
        let listen = try reactor.udpSocket(bind: SocketAddress(origin, port: 0))
        source = Source(
            listen: listen, tls: try TLSContext.server(selfSignedFor: ["\(origin)"], alpn: [applicationProtocol]),
            sender: sender, history: 0, reactor: reactor, log: log)
        receiver = try Receiver(
            to: listen.localAddress, serverName: "\(origin)",
            tls: try TLSContext.client(trust: .none, alpn: [applicationProtocol]), usesFlow: true,
            access: FlowAccess(interface: options.interface), reactor: charged.reactor, log: log)
        receiver.onEvent = { [unowned self] event in
            switch event {
            case .item(let item):
                items += 1
                itemOctets += UInt64(item.bytes.count)
            case .fellBack, .closed: isLost = true
            case .connected, .listening, .way, .returned: break
            }
        }
        receiver.start()
    }

    func close() {
        receiver.onEvent = { _ in }
        receiver.release()
        charged.reactor.close()
    }
}
