import Cryptography
import Feed
import Flexicast
import Logging
import QUIC
import Reactor
import Wire

// A source: it has items and gives each of them to every receiver exactly once, on the flow where the receiver listens to
// it and on the receiver's own connection where it does not.
//
//     publish ──> FlowSource ──> FlowSender ──> group
//        │            │ ^
//        │    repairs │ │ READY, PATH_ACK, LEAVE (SourceSession)
//        v            v │
//     history ──> SourceConnection × N <── Listener <── receivers
//
// Everything that a turn brought is answered at its end, so that packets for one destination leave together.

/// Application-Layer Protocol Negotiation name of a feed over Flexicast QUIC.
public let applicationProtocol = "flexicast"

final class Source {
    let listener: Listener<SourceSession>
    let sender: FlowSender?
    /// An item was handed to the receivers.
    private(set) var itemCount = 0

    private let reactor: Reactor
    private let log: Logger
    private var connections: [ObjectIdentifier: SourceConnection] = [:]
    /// By slot of the member table.
    private var members: [SourceConnection?] = []
    private var dirty: [SourceConnection] = []
    private var isFlowDirty = false
    private var history: [(stream: StreamID?, bytes: [UInt8])] = []
    /// The first of `history` that still counts: the ones before go in batches.
    private var historyStart = 0
    private var historyOctets = 0
    private let historyLimit: Int
    /// Receivers that the group does not reach are sent copies of the flow.
    private let replicates: Bool
    /// The least time after which one of them is tried on the group again.
    private let groupRetry: Duration
    private var groupTimer: TimerHandle?
    /// Connections that copies go to now.
    private var copied: [SourceConnection] = []
    private let patience: SourceConnection.Patience
    /// Where connections are logged.
    private let qlogDirectory: String?
    /// Receivers that let too much gather.
    private var receiversLetGo = 0
    /// What closed connections have sent, and what came for them in vain.
    private var past = (control: 0, withStreams: 0, rejected: UInt64(0))

    /// Octets of recent items kept for receivers that connect.
    static let maxHistoryOctets = 64 << 20

    init(
        listen: UDPSocket, tls: TLSContext, limits: Listener<SourceSession>.Limits = .init(),
        patience: SourceConnection.Patience = .init(), sender: FlowSender?, replicates: Bool = false,
        groupRetry: Duration = .seconds(600), history: Int,
        maxDatagramSize: Int = ConnectionConfiguration.datagramSizeLimit,
        resetKey: StatelessResetKey? = nil, qlogDirectory: String? = nil, reactor: Reactor, log: Logger
    ) {
        self.patience = patience
        self.qlogDirectory = qlogDirectory
        self.reactor = reactor
        self.log = log
        self.sender = sender
        self.replicates = replicates
        self.groupRetry = groupRetry
        historyLimit = history
        var configuration = Self.configuration(hasFlow: sender != nil)
        configuration.maxDatagramSize = maxDatagramSize
        listener = Listener(
            socket: listen, tls: tls, configuration: configuration, limits: limits, resetKey: resetKey, reactor: reactor
        ) { [unowned reactor] in SourceSession(support: nil, maximumPathID: 0, at: reactor.now) }
        listener.onAccept = { [unowned self] peer in accept(peer) }
        listener.onClosed = { [unowned self] peer in forget(peer) }
        sender?.onAction = { [unowned self] action in perform(action) }
        sender?.collectCopies = { [unowned self] copies in collect(&copies) }
        reactor.onTurnEnd { [unowned self] in turnEnded() }
        if replicates, sender?.group != nil {
            groupTimer = reactor.timer { [unowned self] in retryGroup() }
            groupTimer?.schedule(at: reactor.now + groupRetry / 8)
        }
    }

    static func configuration(hasFlow: Bool) -> ConnectionConfiguration {
        var configuration = ConnectionConfiguration()
        // The receiver sends nothing but acknowledgements and control.
        configuration.parameters.initialMaxStreamsBidi = 0
        configuration.parameters.initialMaxStreamsUni = 0
        configuration.keepAlive = .seconds(10)
        if hasFlow {
            configuration.parameters.initialMaxPathID = 16
            configuration.parameters.others[FlexicastSupport.parameterID] = FlexicastSupport().encoded
            configuration.extensionParameter = FlexicastSupport.parameterID
        }
        return configuration
    }

    // MARK: Items

    /// Sends an item, a whole document, to every receiver, and to those that connect later while it is recent.
    func publish(_ bytes: [UInt8]) {
        itemCount += 1
        let publication = sender?.flow.publish(bytes: bytes)
        remember(publication?.stream, bytes)
        for connection in connections.values where connection.isConnected {
            if connection.member != nil, publication?.onFlow == true { continue }
            connection.send(bytes, stream: publication?.stream)
            touch(connection)
        }
        isFlowDirty = true
    }

    private func remember(_ stream: StreamID?, _ bytes: [UInt8]) {
        guard historyLimit > 0 else { return }
        history.append((stream, bytes))
        historyOctets += bytes.count
        while history.count - historyStart > historyLimit
            || historyOctets > Self.maxHistoryOctets && historyStart < history.count
        {
            historyOctets -= history[historyStart].bytes.count
            history[historyStart].bytes = []
            historyStart += 1
        }
        // Moving the rest costs as much as there is: only once for so many.
        if historyStart > 64, historyStart * 2 > history.count {
            history.removeFirst(historyStart)
            historyStart = 0
        }
    }

    /// Puts items of an earlier run into the history, oldest first: receivers that connect are given them.
    func restore(_ items: [[UInt8]]) {
        for bytes in items.suffix(historyLimit) {
            // They take numbers of the flow like all others, so that no later item can have the same.
            remember(sender?.flow.publish(bytes: bytes).stream, bytes)
        }
    }

    // MARK: Connections

    private func accept(_ peer: Peer<SourceSession>) {
        let connection = SourceConnection(peer, patience: patience)
        connections[ObjectIdentifier(peer)] = connection
        if let qlogDirectory { startLog(connection, directory: qlogDirectory) }
        // Both hold the connection, which holds the peer, until `forget`: a connection may end within its own call.
        peer.onEvent = { [unowned self] event in handle(event, of: connection) }
        peer.beforeTransmit = { [unowned self] in drain(connection) }
    }

    private func startLog(_ connection: SourceConnection, directory: String) {
        guard let id = connection.peer.connection.machine.localConnectionIDs.first else { return }
        do {
            let qlog = try Qlog(directory: directory, name: "\(id)_server", role: .server, groupID: id, at: reactor.now)
            qlog.attach(to: connection.peer.connection)
            connection.qlog = qlog
        } catch { log.error("a connection is not logged", metadata: ["reason": "\(error)"]) }
    }

    private func handle(_ event: ConnectionEvent, of connection: SourceConnection) {
        switch event {
        case .connected: connected(connection)
        case .writable: connection.sendWaiting()
        case .closed(let reason):
            connection.qlog?.closed(reason, at: reactor.now)
            log.info(
                "receiver gone",
                metadata: ["address": "\(connection.peer.connection.machine.remoteAddress)", "reason": "\(reason)"])
            closed(connection)
        case .streamStopped(let stream, _):
            log.debug("receiver refused an item", metadata: ["stream": "\(stream.rawValue)"])
        default: break
        }
    }

    private func connected(_ connection: SourceConnection) {
        let secure = connection.peer.connection
        log.info(
            "receiver connected",
            metadata: [
                "address": "\(secure.machine.remoteAddress)", "flexicast": "\(secure.machine.isExtensionNegotiated)",
            ])
        connection.isConnected = true
        if secure.machine.isExtensionNegotiated, let sender {
            guard let peer = secure.machine.peerParameters, let value = peer.others[FlexicastSupport.parameterID] else {
                return
            }
            do throws(TransportError) {
                let support = try FlexicastSupport(parsing: value.span)
                connection.isShared = true
                let limit = min(peer.initialMaxPathID ?? 0, secure.machine.localParameters.initialMaxPathID ?? 0)
                connection.peer.extension = SourceSession(support: support, maximumPathID: limit, at: reactor.now)
                connection.isReplicated = sender.group == nil
                announce(to: connection)
            } catch {
                connection.peer.connection.machine.close(error, at: reactor.now)
                return
            }
        }
        let recent = history[historyStart...]
        if let sender { connection.firstStream = recent.first?.stream ?? sender.flow.nextStream }
        for item in recent { connection.send(item.bytes, stream: item.stream) }
        connection.expectUnfinished()
    }

    private func closed(_ connection: SourceConnection) {
        guard connection.isConnected else { return }
        connection.isConnected = false
        connection.peer.extension.connectionClosed()
        drain(connection)
        setAttached(connection, false)
        isFlowDirty = true
    }

    private func forget(_ peer: Peer<SourceSession>) {
        guard connections.removeValue(forKey: ObjectIdentifier(peer)) != nil else { return }
        Self.letGo(of: peer)
        let statistics = peer.connection.machine.statistics
        past.withStreams += Int(statistics.octetsSentWithStreams)
        past.control += Int(statistics.octetsSent - statistics.octetsSentWithStreams)
        past.rejected += peer.connection.packetsRejected
    }

    private static func letGo(of peer: Peer<SourceSession>) {
        peer.onEvent = { _ in }
        peer.beforeTransmit = {}
    }

    deinit {
        for connection in connections.values { Self.letGo(of: connection.peer) }
    }

    private func touch(_ connection: SourceConnection) { dirty.append(connection) }

    private func turnEnded() {
        // The flow first: what it hands to unicast paths leaves in this turn too.
        if isFlowDirty {
            isFlowDirty = false
            sender?.pump()
        }
        guard !dirty.isEmpty else { return }
        let ready = dirty
        dirty.removeAll(keepingCapacity: true)
        for connection in ready { connection.peer.pump() }
    }

    // MARK: Flexicast

    /// Does what a receiver's frames asked for.
    private func drain(_ connection: SourceConnection) {
        connection.peer.extension.now = reactor.now
        if let sender { drainSession(of: connection, sender) }
        if connection.isConnected, connection.isTooSlow(at: reactor.now) {
            receiversLetGo += 1
            connection.peer.connection.machine.close(
                applicationCode: 1, reason: "too many items are waiting for this receiver", at: reactor.now)
        }
    }

    private func drainSession(of connection: SourceConnection, _ sender: FlowSender) {
        repeat { perform(actionsOf: connection, on: sender) } while reviewCopies(for: connection)
        guard let member = connection.member else { return }
        // The flow and this connection spend the same credit.
        let charge = sender.flow.takeCharge(member)
        connection.peer.connection.machine.chargeExternal(octets: charge.octets, streams: charge.streams)
        if let credit = connection.newCredit() {
            sender.flow.setCredit(member, octets: credit.octets, streams: credit.streams)
            isFlowDirty = true
        }
    }

    private func perform(actionsOf connection: SourceConnection, on sender: FlowSender) {
        while let action = connection.peer.extension.nextAction() {
            switch action {
            case .send(let frame, let key): connection.peer.connection.machine.sendExtensionFrame(frame, key: key)
            case .joined(let flow):
                for key in sender.flow.joined(at: reactor.now) { connection.peer.extension.sendKey(flow, key) }
                // It will hear parts of items that began before it connected.
                for old in sender.flow.unfinishedStreams(before: connection.firstStream) {
                    connection.send(old.bytes, stream: old.stream)
                    connection.firstStream = min(connection.firstStream, old.stream)
                }
                connection.expectUnfinished()
            case .ready(let flow): admit(connection, flow)
            case .left(_, let member, let reason): sender.flow.leave(member, reason: reason, at: reactor.now)
            case .keyHolderLeft: sender.flow.keyHolderLeft()
            case .acknowledged(_, let member, let ranges, let ackDelay):
                do throws(TransportError) {
                    try sender.flow.acknowledged(member, ranges: ranges, ackDelay: ackDelay, at: reactor.now)
                } catch {
                    connection.peer.connection.machine.close(error, at: reactor.now)
                }
            }
            isFlowDirty = true
        }
    }

    // MARK: Announcements and copies

    private func announce(to connection: SourceConnection) {
        guard let sender, connection.peer.extension.announce(sender.flow.flowID, parameters(for: connection)) else {
            return
        }
        connection.isAnnounced = true
        // A group's tree is kept alive for all who may come to hear it; copies go to those who have joined.
        if !connection.isReplicated { setAttached(connection, true) }
    }

    /// What the connection is told of the flow: for copies, its own address takes the place of the group.
    private func parameters(for connection: SourceConnection) -> FlowParameters {
        guard let sender else { preconditionFailure("no flow to announce") }
        let parameters = sender.flow.parameters
        guard connection.isReplicated else { return parameters }
        let secure = connection.peer.connection
        let group = secure.machine.remoteAddress
        let unknown: IPAddress = group.address.isIPv4 ? .v4(0) : .v6(0)
        return FlowParameters(
            source: secure.machine.localAddress?.address ?? unknown, group: group.address, port: group.port,
            ackDelay: parameters.ackDelay)
    }

    private func setAttached(_ connection: SourceConnection, _ isAttached: Bool) {
        guard let sender, connection.isAttached != isAttached else { return }
        connection.isAttached = isAttached
        if isAttached { sender.flow.attach(at: reactor.now) } else { sender.flow.detach() }
        if isAttached, connection.isReplicated {
            copied.append(connection)
        } else {
            copied.removeAll { $0 === connection }
        }
        isFlowDirty = true
    }

    /// Copies go to a receiver as long as it has joined; one that has left a group that it could not hear is offered them.
    /// - Returns: whether there is something new for it.
    private func reviewCopies(for connection: SourceConnection) -> Bool {
        guard let sender, connection.isAnnounced, connection.isConnected else { return false }
        let hasJoined = connection.peer.extension.hasJoined(sender.flow.flowID)
        defer { connection.hadJoined = hasJoined }
        if connection.isReplicated {
            setAttached(connection, hasJoined)
        } else if replicates, connection.hadJoined, !hasJoined {
            setAttached(connection, false)
            connection.isReplicated = true
            let (now, spread) = (reactor.now, Double.random(in: 0...1))
            if connection.groupTrial?.failed(at: now, spread: spread) == nil {
                connection.groupTrial = GroupTrial(first: groupRetry, at: now, spread: spread)
            }
            log.info(
                "receiver is offered copies of the flow",
                metadata: ["address": "\(connection.peer.connection.machine.remoteAddress)"])
            announce(to: connection)
            return true
        }
        return false
    }

    /// A network may have learnt to carry the group meanwhile. What a receiver misses while it listens in vain is repaired.
    private func retryGroup() {
        groupTimer?.schedule(at: reactor.now + groupRetry / 8)
        for connection in copied where connection.member != nil {
            guard let trial = connection.groupTrial, trial.next <= reactor.now else { continue }
            log.info(
                "receiver is tried on the group again",
                metadata: ["address": "\(connection.peer.connection.machine.remoteAddress)"])
            setAttached(connection, false)
            connection.isReplicated = false
            announce(to: connection)
            touch(connection)
        }
    }

    /// Nobody is sent copies at an address that has not answered: it may be somebody else's.
    private func collect(_ copies: inout [FlowSender.Copy]) {
        for connection in copied {
            let secure = connection.peer.connection
            guard secure.machine.isRemoteAddressValidated else { continue }
            copies.append(
                FlowSender.Copy(to: secure.machine.remoteAddress, from: secure.machine.localAddress?.address))
        }
    }

    private func admit(_ connection: SourceConnection, _ flow: FlowID) {
        guard let sender, connection.peer.extension.awaitsMembership(in: flow) else { return }
        let secure = connection.peer.connection
        guard
            let member = sender.flow.add(
                streamWindow: secure.machine.peerParameters?.initialMaxStreamDataUni ?? 0,
                octets: secure.machine.sendCredit,
                streams: secure.machine.streamCredit, at: reactor.now)
        else {
            connection.peer.extension.evict(flow)
            return
        }
        connection.member = member
        while members.count <= member.slot { members.append(nil) }
        members[member.slot] = connection
        connection.peer.extension.becameMember(flow, member)
        log.info(
            "receiver listens to the flow",
            metadata: ["address": "\(secure.machine.remoteAddress)", "members": "\(sender.flow.memberCount)"])
    }

    /// Does what the flow asked for.
    private func perform(_ action: FlowAction) {
        guard let sender else { return }
        switch action {
        case .unicastRepair(let member, let stream, let bytes, let range, let fin, let counted):
            guard let connection = connection(of: member) else { return }
            connection.peer.connection.machine.sendStreamRange(
                stream, bytes: bytes, range: range, fin: fin, counted: counted)
            touch(connection)
        case .memberRemoved(let member, let reason, let charge):
            guard let connection = connection(of: member) else { return }
            members[member.slot] = nil
            connection.member = nil
            // What waited on the flow waits here now; that is not this receiver's doing.
            connection.expectUnfinished()
            connection.peer.connection.machine.chargeExternal(octets: charge.octets, streams: charge.streams)
            if reason.isEviction { connection.peer.extension.evict(sender.flow.flowID) }
            log.info(
                "receiver is back on unicast",
                metadata: ["address": "\(connection.peer.connection.machine.remoteAddress)", "reason": "\(reason)"])
            touch(connection)
        case .sendKey(let key):
            for connection in connections.values where connection.peer.extension.hasJoined(sender.flow.flowID) {
                connection.peer.extension.sendKey(sender.flow.flowID, key)
                touch(connection)
            }
        case .announce:
            for connection in connections.values where connection.isAnnounced {
                announce(to: connection)
                touch(connection)
            }
        case .installKey, .dropKey: break
        }
    }

    private func connection(of member: MemberID) -> SourceConnection? {
        guard member.slot < members.count, let connection = members[member.slot], connection.member == member else {
            return nil
        }
        return connection
    }

    // MARK: Counts and the end

    /// What was sent so far.
    var counts: SourceCounts {
        var counts = SourceCounts()
        var withStreams = past.withStreams
        counts.bytesControl = past.control
        let door = listener.admission.counters
        // What belongs to no connection was refused, even where it was answered.
        var rejected = past.rejected + door.ignored + door.resets + door.tokensRefused + door.versionNegotiations
        for connection in connections.values {
            let statistics = connection.peer.connection.machine.statistics
            withStreams += Int(statistics.octetsSentWithStreams)
            counts.bytesControl += Int(statistics.octetsSent - statistics.octetsSentWithStreams)
            rejected += connection.peer.connection.packetsRejected
        }
        counts.packetsRejected = Int(rejected)
        if let sender {
            let flow = sender.flow.statistics
            let onFlow = sender.group == nil ? 0 : Int(flow.octetsRepairedOnFlow)
            // Never negative: what was handed over for repair may not have left yet.
            let onUnicast = min(Int(flow.octetsRepairedOnUnicast), withStreams)
            counts.bytesFlow = Int(sender.octetsSent) - onFlow
            counts.bytesRepair = onFlow + onUnicast
            counts.bytesUnicast = withStreams - onUnicast
            counts.bytesReplicated = Int(sender.octetsCopied)
            counts.replicated = copied.count
            counts.zeroCopy = sender.zeroCopyDescription
        } else {
            counts.bytesUnicast = withStreams
        }
        counts.receivers = connections.values.count { $0.isConnected }
        counts.members = sender?.flow.memberCount ?? 0
        counts.items = itemCount
        counts.receiversLetGo = receiversLetGo
        return counts
    }

    /// Tells every receiver that the source ends.
    func close() {
        for connection in connections.values {
            connection.peer.connection.machine.close(TransportError(.noError, "the source stops"), at: reactor.now)
            connection.peer.pump()
        }
    }
}
