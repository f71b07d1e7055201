import Flexicast
import QUIC
import Wire

/// The source's end of one receiver's connection.
final class SimulatedPeer {
    var connection: Connection
    var session: SourceSession
    var isConnected = false
    var isShared = false
    var isAttached = false
    var member: MemberID?
    /// All streams from this one on are sent to the receiver, on one way or the other.
    var firstStream = StreamID(0)
    /// Items for a receiver that does not speak flexicast, until it allows the streams.
    var waiting: [[UInt8]] = []

    init(_ connection: consuming Connection, at now: Instant) {
        self.connection = connection
        session = SourceSession(support: nil, maximumPathID: 0, at: now)
    }

    func send(_ bytes: [UInt8], stream: StreamID) {
        guard isShared else {
            waiting.append(bytes)
            sendWaiting()
            return
        }
        connection.sendStreamRange(stream, bytes: bytes, range: 0..<UInt64(bytes.count), fin: true, counted: true)
    }

    func sendWaiting() {
        while let bytes = waiting.first, let stream = try? connection.openStream(bidirectional: false) {
            try? connection.write(stream, bytes, fin: true)
            waiting.removeFirst()
        }
    }
}

/// A source: one real `FlowSource`, and a real server `Connection` and `SourceSession` for each receiver. It does what the
/// endpoint does, without sockets.
public final class SimulatedSource {
    public internal(set) var flow: FlowSource
    /// Secrets by generation, as the sealing side has them.
    private(set) var secrets: [UInt64: [UInt8]] = [:]
    var peers: [SimulatedPeer] = []
    /// Peers that have something to send.
    var touched: Set<Int> = []
    private var members: [Int: Int] = [:]
    private var history: [(stream: StreamID, bytes: [UInt8])] = []
    private let historyLimit: Int

    init(flow: FlowSource, history: Int) {
        self.flow = flow
        historyLimit = history
    }

    func publish(_ bytes: [UInt8]) -> StreamID {
        let publication = flow.publish(bytes: bytes)
        if historyLimit > 0 {
            history.append((publication.stream, bytes))
            if history.count > historyLimit { history.removeFirst() }
        }
        for (index, peer) in peers.enumerated() where peer.isConnected {
            if publication.onFlow, peer.member != nil { continue }
            peer.send(bytes, stream: publication.stream)
            touched.insert(index)
        }
        return publication.stream
    }

    // MARK: Connections

    func drain(_ index: Int, client: TransportParameters, at now: Instant) {
        let peer = peers[index]
        while let event = peer.connection.nextEvent() {
            switch event {
            case .handshakeBytes(let level, _):
                ClearTransport.answerAtServer(&peer.connection, level: level, client: client, at: now)
            case .connected: connected(peer, at: now)
            case .writable: peer.sendWaiting()
            case .closed: closed(peer, at: now)
            default: break
            }
        }
        drainSession(index, at: now)
        guard let member = peer.member else { return }
        // The flow and the connection spend the same credit.
        let charge = flow.takeCharge(member)
        peer.connection.chargeExternal(octets: charge.octets, streams: charge.streams)
        flow.setCredit(member, octets: peer.connection.sendCredit, streams: peer.connection.streamCredit)
    }

    private func connected(_ peer: SimulatedPeer, at now: Instant) {
        peer.isConnected = true
        peer.isShared = peer.connection.isExtensionNegotiated
        if peer.isShared, let value = peer.connection.peerParameters?.others[FlexicastSupport.parameterID],
            let support = try? FlexicastSupport(parsing: value.span)
        {
            let limit = min(
                peer.connection.peerParameters?.initialMaxPathID ?? 0,
                peer.connection.localParameters.initialMaxPathID ?? 0)
            peer.session = SourceSession(support: support, maximumPathID: limit, at: now)
            if peer.session.announce(flow.flowID, flow.parameters) {
                peer.isAttached = true
                flow.attach(at: now)
            }
        }
        peer.firstStream = history.first?.stream ?? flow.nextStream
        for item in history { peer.send(item.bytes, stream: item.stream) }
    }

    private func closed(_ peer: SimulatedPeer, at now: Instant) {
        guard peer.isConnected else { return }
        peer.isConnected = false
        peer.session.connectionClosed()
        if peer.isAttached {
            peer.isAttached = false
            flow.detach()
        }
    }

    private func drainSession(_ index: Int, at now: Instant) {
        let peer = peers[index]
        peer.session.now = now
        while let action = peer.session.nextAction() {
            switch action {
            case .send(let frame, let key): peer.connection.sendExtensionFrame(frame, key: key)
            case .joined(let id):
                for key in flow.joined(at: now) { peer.session.sendKey(id, key) }
                for old in flow.unfinishedStreams(before: peer.firstStream) {
                    peer.send(old.bytes, stream: old.stream)
                    peer.firstStream = min(peer.firstStream, old.stream)
                }
            case .ready(let id) where !peer.session.awaitsMembership(in: id): break
            case .ready(let id):
                guard
                    let member = flow.add(
                        streamWindow: peer.connection.peerParameters?.initialMaxStreamDataUni ?? 0,
                        octets: peer.connection.sendCredit, streams: peer.connection.streamCredit, at: now)
                else {
                    peer.session.evict(id)
                    continue
                }
                peer.member = member
                members[member.slot] = index
                peer.session.becameMember(id, member)
            case .left(_, let member, let reason): flow.leave(member, reason: reason, at: now)
            case .keyHolderLeft: flow.keyHolderLeft()
            case .acknowledged(_, let member, let ranges, let delay):
                do throws(TransportError) {
                    try flow.acknowledged(member, ranges: ranges, ackDelay: delay, at: now)
                } catch { peer.connection.close(error, at: now) }
            }
            drainFlow(at: now)
        }
    }

    // MARK: Flow

    func drainFlow(at now: Instant) {
        while let action = flow.nextAction() {
            switch action {
            case .unicastRepair(let member, let stream, let bytes, let range, let fin, let counted):
                guard let index = members[member.slot], peers[index].member == member else { continue }
                peers[index].connection.sendStreamRange(
                    stream, bytes: bytes, range: range, fin: fin, counted: counted)
                touched.insert(index)
            case .memberRemoved(let member, let reason, let charge):
                guard let index = members[member.slot], peers[index].member == member else { continue }
                members[member.slot] = nil
                peers[index].member = nil
                peers[index].connection.chargeExternal(octets: charge.octets, streams: charge.streams)
                peers[index].session.now = now
                if reason.isEviction { peers[index].session.evict(flow.flowID) }
                touched.insert(index)
            case .installKey(let key): secrets[key.generation] = key.secret
            case .dropKey(let generation): secrets[generation] = nil
            case .sendKey(let key):
                for (index, peer) in peers.enumerated() where peer.session.hasJoined(flow.flowID) {
                    peer.session.sendKey(flow.flowID, key)
                    touched.insert(index)
                }
            case .announce(let parameters):
                for (index, peer) in peers.enumerated() where peer.isAttached {
                    peer.session.announce(flow.flowID, parameters)
                    touched.insert(index)
                }
            }
        }
    }

    func transmitFlow(at now: Instant) -> ClearDatagram? {
        var bytes = [UInt8](repeating: 0, count: flow.configuration.packetSize)
        var plans: [PacketPlan] = []
        let used: Int
        do {
            var span = bytes.mutableSpan
            var writer = ByteWriter(&span)
            guard flow.transmit(into: &writer, plans: &plans, at: now) else { return nil }
            used = writer.offset
        }
        bytes.removeLast(bytes.count - used)
        return ClearDatagram(bytes: bytes, plans: plans)
    }
}
