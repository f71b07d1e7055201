import Cryptography
import Flexicast
import Logging
import Objects
import Operation
import QUIC
import Reactor
import Transport
import Wire

/// A connection that is not there: whoever is at its other end takes everything and says nothing by itself.
struct TrialConnection: ReceiverConnection {
    let remoteAddress: SocketAddress
    let localAddress: SocketAddress? = nil
    let isRemoteAddressValidated = true
    let isExtensionNegotiated = true
    let localParameters: TransportParameters
    let peerParameters: TransportParameters?
    private static let endless: UInt64 = 1 << 60
    var sendCredit: UInt64 { Self.endless }
    var streamCredit: UInt64 { Self.endless }
    var sendRoom: SendRoom {
        SendRoom(
            octets: 1 << 30, credit: Self.endless, streams: Self.endless, streamWindow: Self.endless, openStreams: 0)
    }

    init(to address: SocketAddress) {
        remoteAddress = address
        var parameters = TransportParameters()
        parameters.initialMaxPathID = 1
        parameters.initialMaxStreamDataUni = Self.endless
        parameters.others[FlexicastSupport.parameterID] = FlexicastSupport().encoded
        localParameters = parameters
        peerParameters = parameters
    }

    mutating func sendExtensionFrame(_ octets: [UInt8], key: UInt64) {}
    mutating func sendStreamRange(
        _ id: StreamID, _ octets: StreamOctets, range: Range<UInt64>, fin: Bool, counted: Bool
    ) {}
    mutating func sendDatagram(_ bytes: [UInt8]) -> Bool { true }
    mutating func chargeExternal(octets: UInt64, streams count: UInt64) {}
    mutating func read(_ id: StreamID) -> StreamChunk? { nil }
    mutating func openStream(bidirectional: Bool) throws(StreamsExhausted) -> StreamID { throw StreamsExhausted() }
    func heldOctets(of id: StreamID) -> Int { 0 }
    mutating func write(_ id: StreamID, _ octets: StreamOctets, fin: Bool) throws(StreamError) { throw .unknownStream }
    mutating func reset(_ id: StreamID, code: UInt64) {}
    mutating func close(_ error: TransportError, at now: Instant) {
        preconditionFailure("a member without a connection did wrong: \(error)")
    }
    mutating func close(applicationCode: UInt64, reason: String, at now: Instant) {
        preconditionFailure("a member without a connection was let go: \(reason)")
    }
}

/// A member without a connection: it has gone the ordinary way to READY, and what it says comes as from a connection.
struct TrialMember {
    private let id: ReceiverID
    private var connection: TrialConnection
    private var frames = ReceivedFrames()

    /// The path of the only flow.
    private static let path: UInt64 = 1

    init(
        _ server: inout FlowServer, to address: SocketAddress = SocketAddress(.v4(0x7f00_0001), port: 1),
        at now: Instant
    ) throws {
        connection = TrialConnection(to: address)
        guard let flowID = server.flow?.flowID else { preconditionFailure("no flow to listen to") }
        id = server.accept(at: now)
        server.handle(.connected, of: id, on: &connection, at: now)
        for (sequence, action) in [StateFrame.Action.join, .ready].enumerated() {
            let octets = StateFrame(flowID: flowID, sequence: UInt64(sequence), action: action).encoded
            // A connection has read the type, of two octets, before it asks.
            _ = try frames.frameReceived(
                type: FlexicastFrameType.state, body: octets.span.extracting(2..<octets.count), at: now)
        }
        server.serve(id, frames: &frames, on: &connection, at: now)
        guard server.isMember(id) else {
            throw EndpointError("the flow takes no more than \(server.flow?.memberCount ?? 0) members")
        }
    }

    mutating func acknowledge(_ ranges: [ClosedRange<UInt64>], _ server: inout FlowServer, at now: Instant) {
        do throws(TransportError) {
            try frames.pathAcknowledged(pathID: Self.path, ranges: ranges, ackDelay: .zero, at: now)
        } catch { preconditionFailure("an acknowledgement was refused: \(error)") }
        server.serve(id, frames: &frames, on: &connection, at: now)
    }
}

/// A whole receiver on a reactor of its own, connected to a source that serves nobody else: it hears the flow, opens every
/// packet, takes its frames, gathers items, grants credit and acknowledges.
final class TrialEar {
    let charged: ChargedReactor
    let source: SourceEndpoint
    private let receiver: Receiver
    /// Items that came whole, and their octets.
    private(set) var items: UInt64 = 0
    private(set) var itemOctets: UInt64 = 0
    /// It has left the flow, or its connection has ended: nothing more would come.
    private(set) var isLost = false
    var opened: UInt64 { receiver.peer.extension.statistics.packetsOpened }
    var isMember: Bool { source.counts.members == 1 }

    /// The source takes the server and its flow; `FlowTrial` goes on with the source's.
    init(
        _ options: FlowTrialOptions, server: FlowServer, sender: FlowSender, origin: IPAddress, reactor: Reactor
    ) throws {
        charged = try ChargedReactor(io: options.io, splitsTime: options.splitsTime)
        Meters.keepHeap(Receiver.largeItemOctets)
        let log = Logger(label: "trial") { _ in SwiftLogNoOpLogHandler() }
        let listen = try reactor.udpSocket(bind: SocketAddress(origin, port: 0))
        source = SourceEndpoint(
            listen: listen, tls: try TLSContext.server(selfSignedFor: ["\(origin)"], alpn: [applicationProtocol]),
            server: server, sender: sender, reactor: reactor, log: log)
        receiver = try Receiver(
            to: listen.localAddress, serverName: "\(origin)",
            tls: try TLSContext.client(trust: .none, alpn: [applicationProtocol]), usesFlow: true,
            access: FlowAccess(interface: options.interface), assembler: ObjectAssembler(mode: .parts),
            // What is measured is what packets cost, not how far the window reaches.
            grant: ReceiverGrant(octets: 1 << 30, streams: 1 << 20), reactor: charged.reactor, log: log)
        receiver.onEvent = { [unowned self] event in
            switch event {
            case .object(let item):
                items += 1
                itemOctets += UInt64(item.body.count)
            case .part(let part):
                guard part.completes else { break }
                items += 1
                itemOctets += part.header.length ?? 0
            case .fellBack, .closed, .failed, .gap: isLost = true
            case .connected, .listening, .way, .returned, .log, .datagram: break
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
