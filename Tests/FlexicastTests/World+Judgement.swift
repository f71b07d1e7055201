import QUIC
import Wire

@testable import Flexicast

// What every receiver has to have, octet by octet, and what it is charged.
extension World {
    /// Runs until everybody has everything, or for `limit`; whether they have.
    @discardableResult
    func settle(limit: Duration = .seconds(30)) -> Bool {
        let end = now + limit
        while now < end {
            run(for: .milliseconds(100))
            if flow.isSettled, missing.isEmpty { return true }
        }
        return false
    }

    /// Streams that a receiver should have and has not.
    var missing: [String] {
        var out: [String] = []
        for receiver in receivers where !receiver.isGone {
            for stream in receiver.firstStream..<UInt64(published.count) {
                if !(receiver.streams[stream]?.isComplete ?? false) { out.append("r\(receiver.index) s\(stream)") }
            }
        }
        return out
    }

    /// Every receiver's deliveries are exactly once and charged exactly once.
    func check() {
        for receiver in receivers where !receiver.isGone {
            // What the flow has sent since is charged now.
            server.serve(receiver.id, frames: &receiver.frames, on: &receiver.link, at: now)
            if Set(receiver.delivered).count != receiver.delivered.count { problems.append("delivered twice") }
            // It may have been given streams that began before it came, because it would hear parts of them.
            let expected = receiver.delivered.reduce(0) { $0 + UInt64(published[Int($1)].count) }
            let charged = receiver.charged + receiver.link.charged
            let streams = receiver.chargedStreams + receiver.link.chargedStreams
            if charged != expected { problems.append("r\(receiver.index) charged \(charged), not \(expected)") }
            if streams != UInt64(receiver.delivered.count) {
                problems.append("r\(receiver.index) charged \(streams) streams")
            }
            if let error = receiver.error { problems.append("r\(receiver.index): \(error)") }
        }
    }

    func take(_ receiver: Receiver, stream: UInt64, range: Range<UInt64>, final: UInt64?, viaFlow: Bool) {
        var assembly = receiver.streams[stream] ?? Assembly()
        let was = assembly.isComplete
        assembly.got.insert(range)
        if let final { assembly.final = final }
        if viaFlow { assembly.viaFlow += UInt64(range.count) } else { assembly.viaUnicast += UInt64(range.count) }
        receiver.streams[stream] = assembly
        if assembly.isComplete, !was { receiver.delivered.append(stream) }
    }

    /// Reads the frames of a packet in the clear, and compares every octet.
    func read(_ packet: [UInt8], into receiver: Receiver) {
        var reader = ByteReader(packet.span, at: 1 + Self.flowID.count + 4)
        while reader.remaining > CipherSuite.tagLength {
            let type = reader.uint8()!
            if type <= 1 { continue }  // PADDING, PING
            guard type & 0xf8 == 0x08 else {
                problems.append("frame \(type) on the flow")
                return
            }
            let id = StreamID(reader.varint()!)
            let offset = type & 0x04 != 0 ? reader.varint()! : 0
            // Without a length the frame takes the rest of the packet.
            let length = type & 0x02 != 0 ? reader.varint()! : UInt64(reader.remaining - CipherSuite.tagLength)
            let data = reader.array(Int(length))!
            guard id.initiator == .server, !id.isBidirectional, id.index < UInt64(published.count) else {
                problems.append("stream \(id)")
                return
            }
            let whole = published[Int(id.index)]
            if Array(whole[Int(offset)..<Int(offset + length)]) != data { problems.append("corrupt") }
            let fin = type & 0x01 != 0
            if fin, Int(offset + length) != whole.count { problems.append("fin before the end") }
            // What it could not process before its membership, its connection has been sent otherwise.
            take(
                receiver, stream: id.index, range: offset..<(offset + length), final: fin ? offset + length : nil,
                viaFlow: true)
        }
        if reader.remaining != CipherSuite.tagLength { problems.append("no room for the tag") }
    }
}
