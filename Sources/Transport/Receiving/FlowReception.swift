import AMT
import Cryptography
import Flexicast
import Logging
import QUIC
import Reactor
import Wire

/// How a receiver may get at a flow on this machine.
package struct FlowAccess: Sendable {
    /// Name of the interface that groups are joined on; nil lets the routing table choose.
    package var interface: String?
    /// Join the group itself.
    package var native = true
    /// Open a tunnel to this relay when the group is not heard, or at once when it is not joined.
    package var relay: RelayChoice?

    package init(interface: String? = nil, native: Bool = true, relay: RelayChoice? = nil) {
        self.interface = interface
        self.native = native
        self.relay = relay
    }

    package var ways: FlowWays { FlowWays(native: native, tunnel: relay != nil) }
}

/// The receiving end of one multicast flow: a socket in its group, a tunnel to a relay, or for a flow that the source
/// replicates the connection's own socket; and the keys that open its packets.
package final class FlowReception: DatagramHandler {
    package let flowID: FlowID
    /// In the group; nil when the flow comes through a tunnel only.
    private var socket: UDPSocket?
    private var tunnel: AMTTunnel?
    private unowned let reactor: Reactor
    private let relay: RelayChoice?
    private let log: Logger
    /// Octets of UDP payload in opened packets that came through a tunnel.
    package private(set) var octetsFromTunnel: UInt64 = 0
    package let group: SocketAddress
    package let source: IPAddress?
    /// The newest key first: header protection differs too, so a key is tried, not read off the packet.
    package private(set) var keys: [(key: FlowKey, opening: OpeningKey)] = []
    /// Octets of UDP payload in opened packets.
    package private(set) var octetsOpened: UInt64 = 0
    /// Datagrams that are not of the flow at all.
    package private(set) var strangers: UInt64 = 0

    /// Takes opened packets and says how many of them are new and count as received; nil: of several, each is to be
    /// handed on by itself.
    package var onPackets: (_ run: RunPlan, _ datagrams: Span<UInt8>, _ ecn: ECN) -> Int? = { run, _, _ in run.count }
    /// As many datagrams with the flow's ID have come.
    package var onHeard: (Int) -> Void = { _ in }
    /// Some came from the group itself.
    package var onNative: () -> Void = {}
    package var onRejected: () -> Void = {}
    /// A message of the batch is over: one run of packets, as a rule.
    package var onMessageEnd: () -> Void = {}
    /// The batch is over.
    package var onBatchEnd: () -> Void = {}
    /// The highest number that counts as received, which those to come are near.
    private var largest: UInt64?

    package init(
        _ flowID: FlowID, source: IPAddress?, group: SocketAddress, ways: FlowWays, access: FlowAccess,
        reactor: Reactor, log: Logger
    ) throws(ReactorError) {
        self.flowID = flowID
        self.group = group
        self.source = source
        relay = access.relay
        self.reactor = reactor
        self.log = log
        if ways.native {
            do throws(ReactorError) {
                socket = try Self.join(source: source, group: group, interface: access.interface, reactor: reactor)
            } catch {
                guard ways.tunnel else { throw error }
                log.info("the group cannot be joined here", metadata: ["reason": "\(error)"])
            }
        }
        socket?.handler = self
    }

    /// Tells the network that the group's packets are wanted here (draft section 5.3): the kernel sends IGMP or MLD.
    private static func join(
        source: IPAddress?, group: SocketAddress, interface: String?, reactor: Reactor
    ) throws(ReactorError) -> UDPSocket {
        var options = UDPOptions()
        // Several receivers on one machine listen to the same group and port.
        options.reuseAddress = true
        options.multicastInterface = interface
        let socket = try reactor.udpSocket(bind: group, options: options)
        do throws(ReactorError) {
            try socket.join(group: group.address, source: source, interface: interface)
        } catch {
            socket.close()
            throw error
        }
        return socket
    }

    /// Takes the flow from the group alone again.
    package func closeTunnel() {
        log.info("the group is heard again; closing the tunnel", metadata: ["group": "\(group)"])
        tunnel?.close()
        // It may be in the middle of a call that led here.
        retired = tunnel
        tunnel = nil
    }

    private var retired: AMTTunnel?

    /// Asks a relay for the flow.
    package func openTunnel() {
        guard let relay else { return }
        do throws(ReactorError) {
            var configuration = GatewayConfiguration()
            // A receiver waits for its relay to come back; unicast serves it until then.
            configuration.longestRetry = .seconds(10)
            let tunnel = try AMTTunnel(
                relay: relay, source: source, family: group.address.isIPv4 ? .ipv4 : .ipv6,
                configuration: configuration,
                reactor: reactor, log: log)
            self.tunnel = tunnel
            log.info("asking a relay for the flow", metadata: ["relay": "\(relay)", "group": "\(group)"])
            tunnel.subscribe(Channel(source: source, group: group.address), port: group.port, handler: self)
        } catch {
            log.warning("no tunnel", metadata: ["reason": "\(error)"])
        }
    }

    package func install(_ key: FlowKey) {
        drop(key.generation)
        keys.insert((key, OpeningKey(suite: key.suite, secret: key.secret)), at: 0)
    }

    package func drop(_ generation: UInt64) { keys.removeAll { $0.key.generation == generation } }

    package func close() {
        socket?.close()
        tunnel?.close()
    }

    package func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
        for index in 0..<batch.messageCount {
            let isHeard = batch.withMessage(index) { bytes, segment, ecn in
                receive(&bytes, packetSize: segment, ecn: ecn)
            }
            onMessageEnd()
            if isHeard { onNative() }
        }
        onBatchEnd()
    }

    /// Whether a datagram that came on the connection's socket is of this flow.
    package func owns(_ datagram: Span<UInt8>) -> Bool { PacketHeader.isShort(datagram, at: 0, to: flowID) }

    /// Takes datagrams that lie back to back, all of `packetSize` octets but the last. Whether any was of the flow.
    @discardableResult
    package func receive(_ bytes: inout MutableSpan<UInt8>, packetSize: Int, ecn: ECN) -> Bool {
        guard packetSize > 0 else {
            strangers += 1
            return false
        }
        let count = (bytes.count + packetSize - 1) / packetSize
        // Nearly always all of them are of the flow; else each is looked at by itself.
        guard PacketHeader.areShort(bytes.span, ofSize: packetSize, to: flowID) else {
            guard count > 1 else {
                strangers += 1
                return false
            }
            var isAnyOurs = false
            for index in 0..<count {
                let start = index * packetSize
                var one = bytes._mutatingExtracting(start..<min(bytes.count, start + packetSize))
                if receive(&one, packetSize: one.count, ecn: ecn) { isAnyOurs = true }
            }
            return isAnyOurs
        }
        onHeard(count)
        open(&bytes, packetSize: packetSize, count: count, ecn: ecn)
        return true
    }

    /// Opens packets and hands them on in runs of consecutive numbers: nearly always one. Numbers of other than four octets are
    /// looked for when no key opens a packet as ours are.
    private func open(_ bytes: inout MutableSpan<UInt8>, packetSize: Int, count: Int, ecn: ECN) {
        var numbers = PacketNumbers(repeating: 0)
        for first in stride(from: 0, to: count, by: numbers.count) {
            let some = min(numbers.count, count - first)
            let all = UInt64.max >> UInt64(64 - some)
            let end = min(bytes.count, (first + some) * packetSize)
            var missing = all
            for (key, opening) in keys where missing != 0 {
                let opened = opening.open(
                    &bytes, from: first * packetSize, to: end, packetSize: packetSize, headerLength: 1 + flowID.count,
                    largest: largest ?? key.firstPacketNumber, wanted: missing, numbers: &numbers)
                missing &= ~opened
                var rest = opened
                while rest != 0 {
                    let begin = rest.trailingZeroBitCount
                    var stop = begin + 1
                    while stop < some, opened >> UInt64(stop) & 1 == 1, numbers[stop] == numbers[stop - 1] + 1 {
                        stop += 1
                    }
                    rest &= stop < 64 ? .max << UInt64(stop) : 0
                    let run = RunPlan(
                        start: (first + begin) * packetSize, packetSize: packetSize,
                        end: min(end, (first + stop) * packetSize), headerLength: 1 + flowID.count,
                        firstPacketNumber: numbers[begin], keyGeneration: key.generation)
                    octetsOpened += UInt64(run.end - run.start)
                    hand(on: run, bytes.span, ecn)
                }
            }
            while missing != 0 {
                let start = (first + missing.trailingZeroBitCount) * packetSize
                if !openOne(&bytes, start: start, end: min(end, start + packetSize), ecn: ecn) { onRejected() }
                missing &= missing - 1
            }
        }
    }

    /// Opens a packet whose number may have any length. We send four octets, which whoever joins late can decode; other sources send
    /// fewer, which are decoded by the largest number before them (RFC 9000 appendix A.3). False: no key opens it.
    private func openOne(_ bytes: inout MutableSpan<UInt8>, start: Int, end: Int, ecn: ECN) -> Bool {
        for (key, opening) in keys {
            guard
                let opened = opening.open(
                    &bytes, start: start, packetNumberOffset: start + 1 + flowID.count, end: end,
                    largest: largest ?? key.firstPacketNumber)
            else { continue }
            let run = RunPlan(
                start: start, packetSize: end - start, end: end, headerLength: 1 + flowID.count,
                packetNumberLength: Int(opened.firstOctet & 3) + 1, firstPacketNumber: opened.packetNumber,
                keyGeneration: key.generation)
            octetsOpened += UInt64(end - start)
            hand(on: run, bytes.span, ecn)
            return true
        }
        return false
    }

    private func hand(on run: RunPlan, _ bytes: Span<UInt8>, _ ecn: ECN) {
        guard let new = onPackets(run, bytes, ecn) else {
            for index in 0..<run.count { hand(on: run.packets(index..<(index + 1)), bytes, ecn) }
            return
        }
        if new > 0 { largest = max(largest ?? 0, run.packetNumbers.upperBound) }
    }
}

extension FlowReception: TunnelHandler {
    package func tunnelPacketReceived(
        _ payload: inout MutableSpan<UInt8>, from source: SocketAddress, to group: SocketAddress, ecn: ECN,
        hopLimit: UInt8
    ) {
        let before = octetsOpened
        receive(&payload, packetSize: payload.count, ecn: ecn)
        octetsFromTunnel += octetsOpened - before
    }

    package func tunnelBatchEnded() { onBatchEnd() }
}
