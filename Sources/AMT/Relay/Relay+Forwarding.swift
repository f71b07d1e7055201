import Wire

// Multicast packets on their way into tunnels (RFC 7450 section 5.3.3.6): which tunnels get them, as they are or made
// anew, and how much of them the rates of channels and tunnels allow.
//
//     packetCaptured, for each packet of a batch
//     nextStep, until nil ──> .send     octets that lie in the batch go to each of some tunnels, if `spend` allows it
//                        └──> .remake   a packet that does not go as it is: `remake` has the messages instead
//     batchesEnded ──> whether to look a little later next time
//
// All packets of one channel that came together go to one gateway, then to the next, so that each gateway's are one
// segmented send, and tunnels that are alike share its octets.

/// Tunnels that packets go into in one way.
public struct AlikeTunnels: Hashable, Sendable {
    /// Which tunnels, of those that get the packets.
    public var places = 0..<0
    /// The IP version around the packets: that of the socket they leave by.
    public var isIPv4 = true
    /// Octets of the largest packet that the tunnels take.
    var limit = 0
    var isECNCapable = false

    fileprivate func isLike(_ other: AlikeTunnels) -> Bool {
        isIPv4 == other.isIPv4 && limit == other.limit && isECNCapable == other.isECNCapable
    }
}

/// Packets of a batch that go as they were captured: Multicast Data messages (RFC 7450 section 5.1.6) of one size.
public struct SegmentedSend: Hashable, Sendable {
    /// Which packets of the batch.
    public var packets: Range<Int>
    /// Octets of all messages.
    public var octets: Int
    /// Octets of each message; the last may have fewer.
    public var segment: Int
    /// The mark of the tunnel's packets (RFC 6040 section 4.1).
    public var ecn: ECN
    /// Where they go.
    public var tunnels: AlikeTunnels
}

/// What is to be done next with packets that were captured.
public enum ForwardingStep: Hashable, Sendable {
    /// They go to every tunnel that `Relay.spend` gives an address for.
    case send(SegmentedSend)
    /// This packet of the batch does not go as it is: `Relay.remake` has what goes instead.
    case remake(Int, AlikeTunnels)
}

/// A message that was made for one tunnel.
public struct TunnelMessage: Hashable, Sendable {
    /// A Multicast Data message (RFC 7450 section 5.1.6): a UDP payload.
    public var octets: [UInt8]
    /// The tunnel.
    public var to: TunnelDestination
    /// The mark of the tunnel's packet (RFC 6040 section 4.1).
    public var ecn: ECN
}

/// What becomes of a packet that does not go as it is.
public struct RemadePacket: Hashable, Sendable {
    /// What goes into tunnels, in the order to send it in.
    public var messages: [TunnelMessage] = []
    /// Who sent the packet.
    public var sender: IPAddress
    /// ICMP messages that tell the sender of the size that fits (RFC 7450 sections 5.3.3.6.2.1 and 5.3.3.6.2.2).
    public var notices: [[UInt8]] = []
}

/// Packets that came together, and how far they have been forwarded.
struct Forwarder: Sendable {
    /// Messages and octets of one segmented send.
    static let runLimit = 64
    static let runOctets = 65_400

    /// What forwarding needs to know of a captured packet.
    struct Packet: Sendable {
        var header: DataHeader
        /// Octets of it; `Int.max` for one that does not go as it is.
        var length: Int
    }

    struct Remade: Hashable {
        var packet: Int
        var limit: Int
    }

    /// The batch; nil for a packet that is not forwarded. Reused, so that a packet allocates nothing.
    var packets: [Packet?] = []
    /// Those of one channel that are being sent, and the slots of all tunnels that get them.
    var channel = 0..<0
    var destinations: [Int] = []
    /// The tunnels they are being sent to, and the next packet for them.
    var tunnels = AlikeTunnels()
    var next = 0
    /// Packets that had to be made anew, as messages: once for each limit.
    var remade: [Remade: [[UInt8]]] = [:]
    var feedback = SenderFeedback()
    /// Whether senders can be told anything, by IP version.
    var tellsIPv4 = false
    var tellsIPv6 = false
    var pace = BatchPace()

    mutating func endBatch() {
        packets.removeAll(keepingCapacity: true)
        (channel, next) = (0..<0, 0)
        if !remade.isEmpty { remade.removeAll() }
    }

    /// The next packets for the tunnels at hand.
    @inline(__always)
    mutating func step() -> ForwardingStep {
        let index = next
        guard let first = packets[index], first.length <= tunnels.limit else {
            next += 1
            return .remake(index, tunnels)
        }
        // As many as are of one size, and the next when it is smaller, are one segmented send.
        let segment = first.length + Message.dataHeaderLength
        let most = min(channel.upperBound, index + Self.runLimit)
        var last = first.length
        var end = index + 1
        var octets = segment
        while end < most, last == first.length, octets + segment <= Self.runOctets, let packet = packets[end],
            packet.length <= first.length, !tunnels.isECNCapable || packet.header.ecn == first.header.ecn
        {
            last = packet.length
            octets += last + Message.dataHeaderLength
            end += 1
        }
        next = end
        return .send(
            SegmentedSend(
                packets: index..<end, octets: octets, segment: segment,
                ecn: tunnels.isECNCapable ? first.header.ecn : .notECT, tunnels: tunnels))
    }
}

extension Relay {
    // MARK: packets that are captured

    /// Takes the next packet of a batch: reads what forwarding needs to know of it, and takes a hop from it
    /// (RFC 1812 section 5.3.1). A packet that has no other left is not forwarded.
    /// `segment` is not 0 when the packet is a segmented send that a kernel has not made final yet, with so many
    /// octets of UDP payload in each datagram.
    public mutating func packetCaptured(_ packet: inout MutableSpan<UInt8>, segment: Int) {
        forwarding.packetsIn += 1
        guard let header = DataHeader(packet.span) else {
            forwarding.damaged += 1
            forwarder.packets.append(nil)
            return
        }
        guard header.hopLimit > 1 else {
            forwarding.expired += 1
            forwarder.packets.append(nil)
            return
        }
        takeHop(from: &packet)
        forwarder.packets.append(Forwarder.Packet(header: header, length: segment == 0 ? header.length : .max))
    }

    /// What is to be done next with the packets captured; nil when they are done with: the next one begins another batch.
    public mutating func nextStep(at now: Instant) -> ForwardingStep? {
        while true {
            if forwarder.next < forwarder.channel.upperBound { return forwarder.step() }
            let first = forwarder.tunnels.places.upperBound
            if first < forwarder.destinations.count {
                forwarder.tunnels = alikeTunnels(from: first)
                forwarder.next = forwarder.channel.lowerBound
            } else if !nextChannel(at: now) {
                forwarder.endBatch()
                return nil
            }
        }
    }

    /// Goes on to the packets of the next channel, and to none if it had its rate: false when there is no other.
    private mutating func nextChannel(at now: Instant) -> Bool {
        forwarder.destinations.removeAll(keepingCapacity: true)
        forwarder.tunnels = AlikeTunnels()
        var index = forwarder.channel.upperBound
        while index < forwarder.packets.count, forwarder.packets[index] == nil { index += 1 }
        guard index < forwarder.packets.count, let first = forwarder.packets[index]?.header else { return false }
        var end = index + 1
        var octets = first.length
        while end < forwarder.packets.count, let next = forwarder.packets[end]?.header, next.source == first.source,
            next.group == first.group
        {
            octets += next.length
            end += 1
        }
        forwarder.channel = index..<end
        forwarder.next = end
        openChannel(first.source, first.group, end - index, octets, at: now)
        return true
    }

    /// Finds the tunnels that get packets of a channel: none when it has had its rate.
    private mutating func openChannel(
        _ source: IPAddress, _ group: IPAddress, _ packets: Int, _ octets: Int, at now: Instant
    ) {
        // Taken out, since a list in the relay is not for it to change while it looks into itself.
        var destinations: [Int] = []
        swap(&destinations, &forwarder.destinations)
        let match = collectDestinations(source: source, group: group, into: &destinations)
        swap(&destinations, &forwarder.destinations)
        if forwarder.destinations.isEmpty { forwarding.unwanted += UInt64(packets) }
        if !admit(packets, octets, of: match, at: now) {
            forwarding.overChannelRate += UInt64(packets)
            forwarder.destinations.removeAll(keepingCapacity: true)
        }
    }

    /// Neighbours among the destinations, from `first` on, that take packets in the same way.
    private func alikeTunnels(from first: Int) -> AlikeTunnels {
        var tunnels = way(into: forwarder.destinations[first])
        var end = first + 1
        while end < forwarder.destinations.count, way(into: forwarder.destinations[end]).isLike(tunnels) { end += 1 }
        tunnels.places = first..<end
        return tunnels
    }

    /// What fits is the path's MTU less the headers around a packet (RFC 7450 section 5.3.3.6.1).
    private func way(into slot: Int) -> AlikeTunnels {
        let isIPv4 = endpoints[slot].gateway.address.isIPv4
        return AlikeTunnels(
            isIPv4: isIPv4, limit: endpoints[slot].pathMTU - tunnelOverhead(outerIPv4: isIPv4),
            isECNCapable: endpoints[slot].isECNCapable)
    }

    /// Where `send` goes of the tunnel in `place`, and counts it there; nil when the tunnel has had its rate.
    public mutating func spend(_ send: SegmentedSend, on place: Int, at now: Instant) -> TunnelDestination? {
        let slot = forwarder.destinations[place]
        guard spend(send.octets, packets: send.packets.count, on: slot, at: now) else {
            forwarding.overRate += UInt64(send.packets.count)
            return nil
        }
        return destination(slot)
    }

    // MARK: packets that are made anew

    /// What goes instead of the packet of the batch at `index`, which is `packet`: the packets of a segmented send one by
    /// one, fragments of what is too large (RFC 7450 section 5.3.3.6.2.1), or word to its sender that it is so.
    /// - Parameter segment: as it was for `packetCaptured`.
    public mutating func remake(
        _ index: Int, _ packet: Span<UInt8>, segment: Int, for tunnels: AlikeTunnels, at now: Instant
    ) -> RemadePacket? {
        guard let header = forwarder.packets[index]?.header else { return nil }
        let key = Forwarder.Remade(packet: index, limit: tunnels.limit)
        let messages: [[UInt8]]
        if let known = forwarder.remade[key] {
            messages = known
        } else {
            let whole = packet.extracting(0..<header.length)
            let packets = segment != 0 ? splitSegments(whole, segment: segment) : [[UInt8](whole)]
            messages = Self.messages(packets ?? [], limit: tunnels.limit, tooLarge: &forwarding.tooLarge)
            forwarder.remade[key] = messages
        }
        var remade = RemadePacket(sender: header.source)
        for place in tunnels.places {
            let slot = forwarder.destinations[place]
            if messages.isEmpty, header.source.isIPv4 ? forwarder.tellsIPv4 : forwarder.tellsIPv6,
                let notice = forwarder.feedback.tooLarge(packet, header, limit: tunnels.limit, at: now)
            {
                forwarding.tooLargeTold += 1
                remade.notices.append(notice)
            }
            spend(messages, on: slot, at: now, into: &remade.messages)
        }
        return remade
    }

    /// Takes packets of one channel that came together but not as they were sent, with a hop taken already: what goes into
    /// tunnels.
    public mutating func packetsReceived(
        _ packets: [[UInt8]], from source: IPAddress, to group: IPAddress, at now: Instant
    ) -> [TunnelMessage] {
        forwarding.packetsIn += UInt64(packets.count)
        forwarder.destinations.removeAll(keepingCapacity: true)
        openChannel(source, group, packets.count, packets.reduce(0) { $0 + $1.count }, at: now)
        var made: [Int: [[UInt8]]] = [:]
        var all: [TunnelMessage] = []
        for slot in forwarder.destinations {
            let limit = way(into: slot).limit
            let messages = made[limit] ?? Self.messages(packets, limit: limit, tooLarge: &forwarding.tooLarge)
            made[limit] = messages
            spend(messages, on: slot, at: now, into: &all)
        }
        forwarder.destinations.removeAll(keepingCapacity: true)
        return all
    }

    /// Multicast Data messages of packets, or of fragments of those that are larger than `limit`.
    private static func messages(_ packets: [[UInt8]], limit: Int, tooLarge: inout UInt64) -> [[UInt8]] {
        var messages: [[UInt8]] = []
        for packet in packets {
            if packet.count <= limit {
                messages.append(Message.data.bytes(datagram: packet))
            } else if let pieces = fragments(packet.span, limit: limit) {
                messages += pieces.map { Message.data.bytes(datagram: $0) }
            } else {
                tooLarge += 1
            }
        }
        return messages
    }

    /// Appends those of the messages that the rate of the tunnel in `slot` allows.
    private mutating func spend(_ messages: [[UInt8]], on slot: Int, at now: Instant, into list: inout [TunnelMessage])
    {
        let destination = destination(slot)
        for message in messages {
            guard spend(message.count, on: slot, at: now) else {
                forwarding.overRate += 1
                continue
            }
            let packet = message.span.extracting(Message.dataHeaderLength..<message.count)
            let mark = destination.isECNCapable ? DataHeader(packet)?.ecn ?? .notECT : .notECT
            list.append(TunnelMessage(octets: message, to: destination, ecn: mark))
        }
    }

    // MARK: what the shell tells

    /// Senders of packets of this IP version can be told what size fits: there is a socket for ICMP.
    public mutating func sendersCanBeTold(isIPv4: Bool) {
        if isIPv4 { forwarder.tellsIPv4 = true } else { forwarder.tellsIPv6 = true }
    }

    /// Counts copies of packets, with `octets` of messages in all, that wait to be sent, or found the send queue full.
    public mutating func copied(_ packets: Int, _ octets: Int, isQueued: Bool) {
        if isQueued {
            forwarding.packetsOut += UInt64(packets)
            forwarding.octetsOut += UInt64(octets)
        } else {
            forwarding.queueFull += UInt64(packets)
        }
    }

    /// The batches at hand are over, which had `count` packets: until when it pays to leave those that come next alone.
    public mutating func batchesEnded(_ count: Int, at now: Instant) -> Instant? {
        forwarder.pace.ended(count, at: now)
    }
}
