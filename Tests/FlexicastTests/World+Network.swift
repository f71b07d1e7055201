import QUIC
import Wire

@testable import Flexicast

// The adapter: it moves octets and time between the server, the clients and the network.
extension World {
    func jitter() -> Duration { .microseconds(Int64.random(in: 0...3000, using: &random)) }
    private func chance(_ probability: Double) -> Bool {
        probability > 0 && Double.random(in: 0..<1, using: &random) < probability
    }

    func schedule(_ event: Event, after delay: Duration) { queue.schedule(event, at: now + delay) }

    func handle(_ event: Event) {
        switch event {
        case .wake: break
        case .toReceiver(let index, let frame):
            let receiver = receivers[index]
            guard !receiver.isGone else { return }
            do throws(TransportError) { _ = try World.deliver(frame, to: &receiver.client, at: now) } catch {
                receiver.link.error = error
            }
        case .toSource(let index, let frame):
            let receiver = receivers[index]
            guard !receiver.isGone else { return }
            do throws(TransportError) { _ = try World.deliver(frame, to: &receiver.frames, at: now) } catch {
                receiver.link.error = error
            }
        case .acknowledgement(let index, let pathID, let ranges):
            let receiver = receivers[index]
            guard !receiver.isGone else { return }
            do throws(TransportError) {
                try receiver.frames.pathAcknowledged(
                    pathID: pathID, ranges: ranges, ackDelay: .milliseconds(2), at: now)
            } catch { receiver.link.error = error }
        case .acknowledge(let index):
            let receiver = receivers[index]
            receiver.ackIsScheduled = false
            guard !receiver.isGone, let pathID = receiver.pathID, !receiver.opened.list.isEmpty else { return }
            let ranges = receiver.opened.list.suffix(32).reversed().map { $0.lowerBound...($0.upperBound - 1) }
            if chance(receiver.ackLoss) { return }
            schedule(.acknowledgement(index, pathID: pathID, ranges: ranges), after: latency + jitter())
        case .flow(let index, let packet, let number, let secret):
            let receiver = receivers[index]
            guard !receiver.isGone, receiver.isInGroup, !receiver.isCut else { return }
            receiver.client.heard(Self.flowID, count: 1, at: now)
            guard let generation = receiver.secrets.first(where: { $0.value == secret })?.key else {
                receiver.client.rejected(Self.flowID, at: now)
                return
            }
            let run = RunPlan(
                start: 0, packetSize: packet.count, end: packet.count, headerLength: 1 + Self.flowID.count,
                firstPacketNumber: number, keyGeneration: generation)
            guard case .path(let pathID) = receiver.client.admit(Self.flowID, run, at: now) else { return }
            _ = receiver.client.received(
                Self.flowID, pathID: pathID, run, in: packet.span, ecn: .notECT, on: &receiver.clientLink, at: now)
            if pathID != receiver.pathID { problems.append("path \(pathID)") }
            receiver.opened.insert(number..<(number + 1))
            read(packet, into: receiver)
            if !receiver.ackIsScheduled {
                receiver.ackIsScheduled = true
                schedule(.acknowledge(index), after: receiver.ackDelay)
            }
        case .unicast(let index, let stream, let range, let fin, let final):
            let receiver = receivers[index]
            guard !receiver.isGone else { return }
            take(receiver, stream: stream, range: range, final: fin ? UInt64(final) : nil, viaFlow: false)
        }
    }

    /// Hands a frame to a session as `Connection` would; how many octets it took.
    static func deliver(
        _ frame: [UInt8], to session: inout some FrameExtension, at now: Instant = Instant(nanoseconds: 1_000_000_000)
    ) throws(TransportError) -> Int? {
        var reader = ByteReader(frame.span)
        let type = reader.varint()!
        let body = frame.span.extracting(reader.offset..<frame.count)
        let used = try session.frameReceived(type: type, body: body, at: now)
        precondition(used == nil || used == body.count)
        return used
    }

    /// Does everything that is to be done now.
    func pump() {
        var plans: [PacketPlan] = []
        repeat {
            server.flowWasPumped()
            for receiver in receivers where !receiver.isGone { serve(receiver) }
            server.settle(at: now)
            takeKeys()
            while let packet = transmit(&plans) { sendFlow(packet, plan: plans.removeLast()) }
            server.settle(at: now)
            if server.checksInvariants, let problem = server.checkInvariants() { problems.append(problem) }
            while let id = server.nextTouched() {
                if let receiver = receivers.first(where: { $0.id == id }) { serve(receiver) }
            }
        } while server.isFlowTouched
    }

    private func transmit(_ plans: inout [PacketPlan]) -> [UInt8]? {
        let used: Int
        do {
            var span = buffer.mutableSpan
            var writer = ByteWriter(&span)
            guard server.withFlow({ $0.transmit(into: &writer, plans: &plans, at: now) }) == true else { return nil }
            used = writer.offset
        }
        return Array(buffer[..<used])
    }

    private func takeKeys() {
        while let change = server.nextKeyChange() {
            switch change {
            case .install(let key): secretsAtSource[key.generation] = key.secret
            case .drop(let generation): secretsAtSource[generation] = nil
            }
        }
    }

    /// Both ends of a receiver's connection say what they have to.
    func serve(_ receiver: Receiver) {
        server.serve(receiver.id, frames: &receiver.frames, on: &receiver.link, at: now)
        for frame in receiver.link.takeFrames() {
            schedule(.toReceiver(receiver.index, frame: frame), after: latency + jitter())
        }
        for part in receiver.link.takeParts() {
            if part.bytes != published[Int(part.stream.index)] { problems.append("repair of another stream") }
            unicast(receiver, stream: part.stream.index, range: part.range, fin: part.fin, counted: part.counted)
        }
        receiver.client.serve(on: &receiver.clientLink, at: now)
        if receiver.pathID == nil { receiver.opened = Ranges() }
        for frame in receiver.clientLink.takeFrames() {
            schedule(.toSource(receiver.index, frame: frame), after: latency + jitter())
        }
        while let action = receiver.client.nextAction() {
            switch action {
            case .open: receiver.isInGroup = true
            case .close: receiver.isInGroup = false
            case .installKey(_, let key): receiver.secrets[key.generation] = key.secret
            case .dropKey(_, let generation): receiver.secrets[generation] = nil
            case .returned: receiver.returns += 1
            case .fellBack(_, let reason): receiver.fallBacks.append(reason)
            case .listening, .openTunnel, .closeTunnel, .joinRefused, .joinUnanswered, .log, .object, .part, .failed,
                .gap, .datagram, .end:
                break
            }
        }
    }

    private func sendFlow(_ packet: [UInt8], plan: PacketPlan) {
        let phase: UInt8 = packet[0] >> 2 & 1
        if UInt64(phase) != plan.keyGeneration & 1 { problems.append("key phase") }
        lastPacketLog.append((plan.packetNumber, packet.count, now))
        guard let secret = secretsAtSource[plan.keyGeneration] else {
            problems.append("sealing key \(plan.keyGeneration) not installed")
            return
        }
        for receiver in receivers where receiver.isInGroup && !receiver.isGone && !receiver.isCut {
            if chance(receiver.loss) { continue }
            schedule(
                .flow(receiver.index, packet: packet, number: plan.packetNumber, secret: secret),
                after: latency + .microseconds(Int64.random(in: 0...100, using: &random)))
        }
    }
}
