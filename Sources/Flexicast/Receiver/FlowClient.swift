import Objects
import QUIC
import Wire

/// How a receiver takes a flow and what comes with it.
public struct FlowClientConfiguration: Sendable {
    /// When it joins flows, falls back and returns.
    public var session = ReceiverConfiguration()
    /// By which ways a flow may come.
    public var ways = FlowWays()
    /// Which objects are wanted on the connection.
    public var wants = Wants.everything
    /// `report` will be called: the receiver's side of the control stream stays open.
    public var reports = false

    /// Every flow that is announced, from its group and not through tunnels, and all objects.
    public init() {}
}

/// Whether packets of a flow may be processed.
public enum FlowAdmission: Sendable {
    /// The connection takes them as packets of this path.
    case path(UInt64)
    /// They must not be processed.
    case refused
    /// They are not alike: ask for each of them.
    case each
}

/// A receiver's whole part, without octets and time: one connection's flows with their keys, the way each takes to get
/// here, its place in the source's log and the objects that come by flow and connection. A pure value.
///
///     events, frames ──> ReceiverSession ──> keys, JOIN, READY, LEAVE
///     opened packets ──> admit ──> received ──> streams ──> parts ──> ObjectAssembler ──> objects, once each
///     control stream ──> LOG, GAP, END ──────────────────────────────────^
///     native packets ──> FlowLadder ──> tunnel or not
///
/// A shell moves octets and time: it calls `handle` for each event of the connection, `serve` before packets are written,
/// and does what `nextAction` says.
public struct FlowClient: FrameExtension, Sendable {
    private struct Flow: Sendable {
        let id: FlowID
        var ladder: FlowLadder
        var reach = FlowReach()
        var keys: [FlowKey] = []
    }

    /// As it was made.
    public let configuration: FlowClientConfiguration
    private(set) var session: ReceiverSession
    /// Flows that are open.
    private var flows: [Flow] = []
    /// Where the receiver is in the source's log. It outlives the connection: the next client goes on with it.
    public private(set) var assembler: ObjectAssembler
    private var decoder = ControlDecoder(from: .source)
    /// The source has said what the numbers of parts mean; before that none is taken.
    private var knowsLog = false
    /// Streams of parts that came before that, whole.
    private var early: [StreamID] = []
    private var datagrams = DatagramWindow()
    /// Datagrams that came twice, too late to know, or without a number.
    public private(set) var datagramsIgnored: UInt64 = 0
    /// The source broke a rule, and the connection was closed for it.
    private var isOver = false
    private var missingBefore: UInt64 = 0
    private var random: SeededRandom
    private var actions: [ClientAction] = []
    private var actionsTaken = 0

    /// - Parameters:
    ///   - configuration: how flows are taken, and which objects are wanted.
    ///   - assembler: that of the connection before, or a new one.
    ///   - seed: for connection IDs and for times that receivers must not have in common.
    public init(
        configuration: FlowClientConfiguration = FlowClientConfiguration(),
        assembler: ObjectAssembler = ObjectAssembler(), seed: SeededRandom
    ) {
        self.configuration = configuration
        self.assembler = assembler
        random = seed
        session = ReceiverSession(
            isNegotiated: false, maximumPathID: 0, configuration: configuration.session,
            seed: SeededRandom(from: &random))
    }

    /// The next thing to do; nil when all is done. To be called until nil after every other call.
    public mutating func nextAction() -> ClientAction? {
        guard actionsTaken < actions.count else {
            if actionsTaken > 0 { actions.removeAll(keepingCapacity: true) }
            actionsTaken = 0
            return nil
        }
        defer { actionsTaken += 1 }
        // Moved out, as objects are many and a copy would count all that they hold.
        var action = ClientAction.end(0)
        swap(&action, &actions[actionsTaken])
        return action
    }

    /// Counters of the connection's flows.
    public var statistics: ReceiverStatistics { session.statistics }
    /// Where the receiver stands with a flow.
    public func state(of id: FlowID) -> ReceiverState { session.state(of: id) }
    /// Whether packets of any flow have been opened and the source been told so: the receiver is on a flow now.
    public var isListening: Bool { session.isListening }
    /// Packet numbers of flows that never came while listening; the few that a source skips on purpose are among them.
    public var packetsMissing: UInt64 { flows.reduce(missingBefore) { $0 + $1.reach.missing } }

    // MARK: The connection

    /// Takes an event of the connection; those that do not concern flows and objects are ignored.
    public mutating func handle<C: FlowClientConnection & ~Copyable>(
        _ event: ConnectionEvent, on connection: inout C, at now: Instant
    ) {
        switch event {
        case .connected: connected(on: &connection, at: now)
        case .streamReadable(.control): controlReceived(on: &connection, at: now)
        case .streamReadable(let id): read(id, on: &connection, at: now)
        case .streamReset(.control, _), .streamStopped(.control, _):
            breakControl(.controlCutOff, on: &connection, at: now)
        case .streamReset(let id, _): early.removeAll { $0 == id }
        case .connectionIDsWanted(let count):
            for _ in 0..<count {
                guard let id = ConnectionID(random.octets(8)) else { continue }
                // Nobody else could tell who sent a reset: a client's token is as good as random.
                connection.provideConnectionID(id, resetToken: random.octets(16))
            }
        case .pathAbandoned(let pathID): session.pathAbandoned(pathID)
        case .datagram(let octets, let origin): datagramReceived(octets, origin)
        case .closed: shutDown()
        default: break
        }
        drain(on: &connection, at: now)
    }

    private mutating func datagramReceived(_ octets: [UInt8], _ origin: StreamOrigin) {
        var reader = ByteReader(octets.span)
        guard !isOver, let number = reader.varint(), datagrams.take(number) else {
            datagramsIgnored += 1
            return
        }
        actions.append(.datagram(octets[reader.offset...], origin))
    }

    /// Hands the connection what is to be sent.
    public mutating func serve<C: FlowClientConnection & ~Copyable>(on connection: inout C, at now: Instant) {
        drain(on: &connection, at: now)
    }

    /// Ends listening, by any way; the connection is at its end.
    public mutating func shutDown() {
        for flow in flows { closeFlow(flow.id) }
    }

    /// Takes FC_ANNOUNCE, FC_STATE and FC_KEY (draft section 11). Throws to close the connection.
    public mutating func frameReceived(type: UInt64, body: Span<UInt8>, at now: Instant) throws(TransportError) -> Int?
    {
        try session.frameReceived(type: type, body: body, at: now)
    }

    /// A client sends on its connection's own path only: throws PROTOCOL_VIOLATION.
    public mutating func pathAcknowledged(
        pathID: UInt64, ranges: [ClosedRange<UInt64>], ackDelay: Duration, at now: Instant
    ) throws(TransportError) {
        try session.pathAcknowledged(pathID: pathID, ranges: ranges, ackDelay: ackDelay, at: now)
    }

    /// The error for a frame that a flow may not carry (draft sections 7 and 11).
    public func forbiddenOnFlow(type: UInt64) -> TransportError { session.forbiddenOnFlow(type: type) }

    private mutating func connected<C: FlowClientConnection & ~Copyable>(on connection: inout C, at now: Instant) {
        if connection.isExtensionNegotiated,
            let value = connection.peerParameters?.others[FlexicastSupport.parameterID]
        {
            do throws(TransportError) {
                // A source of neither IP version is in error too (draft section 4).
                _ = try FlexicastSupport(parsing: value.span)
            } catch {
                isOver = true
                connection.close(error, at: now)
                return
            }
        }
        let limit = min(
            connection.peerParameters?.initialMaxPathID ?? 0, connection.localParameters.initialMaxPathID ?? 0)
        session = ReceiverSession(
            isNegotiated: connection.isExtensionNegotiated, maximumPathID: limit,
            configuration: configuration.session, seed: SeededRandom(from: &random))
        statePosition(on: &connection, at: now)
    }

    // MARK: The log

    /// Says where the receiver is and what it wants, first of all.
    private mutating func statePosition<C: FlowClientConnection & ~Copyable>(on connection: inout C, at now: Instant) {
        do {
            let message = try ControlMessage.position(assembler.position(wants: configuration.wants)).encoded()
            guard try connection.openStream(bidirectional: true) == .control else {
                preconditionFailure("the control stream is a connection's first")
            }
            // Who has no more to say ends its side, which costs the source nothing from then on.
            try connection.write(.control, message, fin: !configuration.reports)
        } catch {
            connection.close(
                applicationCode: ObjectsError.Code.unexpected.rawValue,
                reason: "the source grants no stream to state a position on", at: now)
        }
    }

    /// Tells the source of the reception, if the last report has arrived; else this one is left out.
    public mutating func report<C: FlowClientConnection & ~Copyable>(_ report: ReportMessage, on connection: inout C) {
        guard configuration.reports, knowsLog, !isOver, connection.heldOctets(of: .control) == 0,
            let message = try? ControlMessage.report(report).encoded()
        else { return }
        // A stream that cannot be written any more belongs to a connection that ends.
        try? connection.write(.control, message, fin: false)
    }

    private mutating func controlReceived<C: FlowClientConnection & ~Copyable>(
        on connection: inout C, at now: Instant
    ) {
        guard !isOver, let chunk = connection.read(.control) else { return }
        do throws(ObjectsError) {
            var reader = ByteReader(chunk.bytes.span)
            while let message = try decoder.next(from: &reader) {
                switch message {
                case .gap where !knowsLog: throw .before(.gap, wanted: .log)
                case .end where !knowsLog: throw .before(.end, wanted: .log)
                case .log(let log) where knowsLog && log.answer != .taken: throw .answeredAgain
                case .log(let log):
                    _ = try assembler.logReceived(log, roundTrip: connection.smoothedRTT ?? .zero, at: now)
                    guard !knowsLog else { break }
                    knowsLog = true
                    actions.append(.log(log))
                    let waiting = early
                    early = []
                    for id in waiting { read(id, on: &connection, at: now) }
                case .gap(let gap): try assembler.gapReceived(gap)
                case .end(let sequence):
                    assembler.endReceived(sequence)
                    actions.append(.end(sequence))
                // The decoder lets them through from a client only.
                case .position, .report: break
                }
                takeNotices()
            }
            guard chunk.isFinished else { return }
            try decoder.finish()
            if !knowsLog { throw .controlUnopened(.log) }
        } catch {
            breakControl(error, on: &connection, at: now)
        }
    }

    /// The control stream broke a rule: the connection ends, and nothing of it is taken any more.
    private mutating func breakControl<C: FlowClientConnection & ~Copyable>(
        _ error: ObjectsError, on connection: inout C, at now: Instant
    ) {
        guard !isOver else { return }
        isOver = true
        connection.close(applicationCode: error.code.rawValue, reason: "control stream: \(error)", at: now)
    }

    private mutating func read<C: FlowClientConnection & ~Copyable>(
        _ id: StreamID, on connection: inout C, at now: Instant
    ) {
        guard !isOver, id.initiator == .server, !id.isBidirectional else { return }
        guard knowsLog else {
            // No more than the streams that the connection allows.
            if !early.contains(id) { early.append(id) }
            return
        }
        guard let gathered = connection.gather(id) else { return }
        let number = connection.isExtensionNegotiated ? id.index : nil
        do throws(ObjectsError) {
            guard case .whole(let chunk) = gathered else {
                guard case .part(let octets) = gathered, octets > ObjectLimits.streamOctets else { return }
                connection.stopSending(id, code: ObjectsError.Code.limit.rawValue)
                throw .tooLong(.part, limit: UInt64(ObjectLimits.streamOctets))
            }
            let part = try Part(stream: chunk.bytes)
            let way: PartWay =
                chunk.octetsFromUnicast == 0
                ? .flow
                : chunk.octetsFromFlow == 0
                    ? .connection : .both(fromFlow: max(1, Int(chunk.octetsFromFlow) - part.preludeLength))
            take(assembler.receive(part, stream: number, via: way, at: now))
        } catch {
            // Where the stream does not say the number, nothing is known to be settled by it.
            if let number {
                take(assembler.partFailed(number, error))
            } else {
                actions.append(.failed(AssemblyFailure(object: id.index, name: nil, reason: .malformed(error))))
            }
        }
        takeNotices()
    }

    private mutating func take(_ answer: consuming PartAnswer) {
        switch consume answer {
        case .object(let object): actions.append(.object(object))
        case .part(let part): actions.append(.part(part))
        case .failed(let failure): actions.append(.failed(failure))
        case .held, .duplicate, .ended: break
        }
    }

    private mutating func takeNotices() {
        for notice in assembler.takeNotices() {
            switch notice {
            case .failed(let failure): actions.append(.failed(failure))
            case .gap(let gap): actions.append(.gap(gap))
            }
        }
    }

    // MARK: Packets of flows

    /// Datagrams with the flow's ID have come; whether they can be opened is not known yet.
    public mutating func heard(_ id: FlowID, count: Int, at now: Instant) {
        session.flowPacketHeard(id, count: count, at: now)
    }

    /// The flow was heard from the group itself.
    public mutating func nativeHeard(_ id: FlowID, at now: Instant) {
        guard let index = index(of: id), let step = flows[index].ladder.nativeHeard(at: now) else { return }
        take(step, id)
    }

    /// Whether packets that a key has opened may be processed: `received` follows for those that may.
    public mutating func admit(_ id: FlowID, _ run: RunPlan, at now: Instant) -> FlowAdmission {
        if let path = session.flowPacketsOpened(
            id, generation: run.keyGeneration, packetNumbers: run.packetNumbers, at: now)
        {
            return .path(path)
        }
        guard run.count == 1 else { return .each }
        let path = session.flowPacketOpened(
            id, generation: run.keyGeneration, packetNumber: run.firstPacketNumber, at: now)
        return path.map { .path($0) } ?? .refused
    }

    /// Has the connection take packets that were admitted. Returns how many of them are new and count as received.
    public mutating func received<C: FlowClientConnection & ~Copyable>(
        _ id: FlowID, pathID: UInt64, _ run: RunPlan, in datagrams: Span<UInt8>, ecn: ECN, on connection: inout C,
        at now: Instant
    ) -> Int {
        // READY and the opened path come before the packet that caused them is acknowledged.
        drain(on: &connection, at: now)
        let new = connection.flowPacketsReceived(
            pathID: pathID, run, in: datagrams, ecn: ecn, at: now, extension: &self)
        noteReach(id, run, new: new)
        return new
    }

    private mutating func noteReach(_ id: FlowID, _ run: RunPlan, new: Int) {
        guard new > 0, let index = index(of: id) else { return }
        let begins = flows[index].keys.first { $0.generation == run.keyGeneration }?.firstPacketNumber
        flows[index].reach.note(
            run.packetNumbers, new: new, generation: run.keyGeneration, keyBegins: begins ?? run.firstPacketNumber)
    }

    /// No key opened the packet.
    public mutating func rejected(_ id: FlowID, at now: Instant) { session.flowPacketRejected(id, at: now) }

    /// Joins a flow that was announced, now or as soon as that may be: for who has left it, or joins only what is asked for.
    public mutating func join(_ id: FlowID, at now: Instant) { session.join(id, at: now) }
    /// Leaves the flow by the user's wish, and its group as well. It does not return by itself; see `join`.
    public mutating func leave(_ id: FlowID, at now: Instant) { session.leave(id, at: now) }

    // MARK: Time

    /// When to call `timerFired`, unless something happens before.
    public var nextDeadline: Instant {
        flows.reduce(session.nextDeadline) { min($0, $1.ladder.nextDeadline) }
    }

    /// Does what is due: falls back, returns, asks the source whether it is there, opens and closes tunnels.
    public mutating func timerFired(at now: Instant) {
        session.timerFired(at: now)
        for index in flows.indices {
            if let step = flows[index].ladder.timerFired(at: now) { take(step, flows[index].id) }
        }
    }

    // MARK: What the session asks for

    private mutating func drain<C: FlowClientConnection & ~Copyable>(on connection: inout C, at now: Instant) {
        while let action = session.nextAction() {
            switch action {
            case .send(let frame, let key): connection.sendExtensionFrame(frame, key: key)
            case .ask: connection.ping()
            case .joinGroup(let id, let source, let group, let port):
                openFlow(id, source: source, group: SocketAddress(group, port: port), at: now)
            case .leaveGroup(let id, _, _, _): closeFlow(id)
            case .installKey(let id, let key):
                if let index = index(of: id) { flows[index].keys.append(key) }
                actions.append(.installKey(id, key))
            case .dropKey(let id, let generation):
                if let index = index(of: id) { flows[index].keys.removeAll { $0.generation == generation } }
                actions.append(.dropKey(id, generation: generation))
            case .openReceivePath(_, let pathID, let delay), .setAckDelay(_, let pathID, let delay):
                // Each receiver reports at a phase of its own, so that the source hears them evenly.
                let phase = Duration.nanoseconds(Int64.random(in: 0...max(0, delay.nanoseconds), using: &random))
                connection.openReceivePath(pathID, ackDelay: delay, phase: phase)
            case .closeReceivePath(_, let pathID): connection.closeReceivePath(pathID, at: now)
            case .listening(let id):
                forgetReach(id)
                actions.append(.listening(id))
            case .returned(let id): actions.append(.returned(id))
            case .fellBack(let id, let reason):
                forgetReach(id)
                actions.append(.fellBack(id, reason))
            case .joinRefused(let id): actions.append(.joinRefused(id))
            case .joinUnanswered(let id): actions.append(.joinUnanswered(id))
            }
        }
    }

    private func index(of id: FlowID) -> Int? {
        for index in flows.indices where flows[index].id == id { return index }
        return nil
    }

    private mutating func openFlow(_ id: FlowID, source: IPAddress?, group: SocketAddress, at now: Instant) {
        closeFlow(id)
        // Copies for this receiver alone come where the connection's packets come.
        let ways = group.address.isMulticast ? configuration.ways : FlowWays(native: false, tunnel: false)
        var ladder = FlowLadder(ways, at: now)
        let step = ladder.start()
        flows.append(Flow(id: id, ladder: ladder))
        actions.append(.open(id, source: source, group: group, ways: ways))
        if let step { take(step, id) }
    }

    private mutating func closeFlow(_ id: FlowID) {
        guard let index = index(of: id) else { return }
        forgetReach(id)
        flows.remove(at: index)
        actions.append(.close(id))
    }

    private mutating func take(_ step: FlowLadder.Step, _ id: FlowID) {
        switch step {
        case .openTunnel: actions.append(.openTunnel(id))
        case .closeTunnel: actions.append(.closeTunnel(id))
        }
    }

    private mutating func forgetReach(_ id: FlowID) {
        if let index = index(of: id) { missingBefore += flows[index].reach.forget() }
    }
}
