import Flexicast
import Foundation
import Wire

@testable import Cryptography
@testable import QUIC

/// What a file of Tests/vectors holds: a flow from its secrets to the octets of its packets, and the frames with which one receiver
/// joins, is given a new key, acknowledges and leaves. All of it comes from the machines that run in production.
struct FlowVectors: Encodable {
    var about = "docs/vectors.md explains this file; Tests/vectors/check.py checks it."
    /// The value of the source's transport parameter flexicast_support.
    var flexicastSupport = FlexicastSupport().encoded.hexadecimal
    /// Cipher suite by its code point in TLS.
    var suite: String
    var flowID: String
    var keys: [Key] = []
    /// In the order in which they leave.
    var steps: [Step] = []
    /// What the flow's streams hold, by their IDs.
    var streams: [String: String] = [:]

    struct Key: Encodable {
        var generation: UInt64
        var firstPacketNumber: UInt64
        var secret: String
        var key: String
        var iv: String
        var headerProtection: String
    }

    struct Step: Encodable {
        /// "source", "receiver", or "flow" for a packet that all receivers get.
        var from: String
        /// What it is, for a person.
        var what: String
        /// The frame, type included, as it is in a 1-RTT packet of the connection; for a packet of the flow the UDP payload.
        var octets: String
        /// The fields of a frame of the connection.
        var frame: Frame?
        /// How a packet of the flow comes about.
        var packet: Packet?
    }

    struct Frame: Encodable {
        var type: String
        var sequence: UInt64?
        var action: String?
        var source: String?
        var group: String?
        var port: UInt16?
        var ackDelayMilliseconds: UInt64?
        var packetNumber: UInt64?
        var secret: String?
        var algorithm: String?
        var pathID: UInt64?
        var largest: UInt64?
        /// As it travels: microseconds divided by two to the power of ack_delay_exponent, 3 here.
        var encodedAckDelay: UInt64?
        /// Highest first, the lowest and the highest number of each.
        var ranges: [[UInt64]]?
        /// ECT(0), ECT(1) and CE.
        var ecn: [UInt64]?
    }

    struct Packet: Encodable {
        var number: UInt64
        var generation: UInt64
        /// Before header protection.
        var header: String
        var nonce: String
        var payload: String
        /// What the mask is made from, and the octets that the header was changed by: the first octet of the mask without the three
        /// bits that a short header keeps.
        var sample: String
        var mask: String
    }
}

/// Has a flow run, and notes what is seen of it.
struct FlowVectorMaker {
    private var flow: FlowSource
    private var made: FlowVectors
    private var keys: [UInt64: SealingKey] = [:]
    private var now = Instant(nanoseconds: 1_000_000_000)
    private let source: IPAddress
    private let group: IPAddress
    private static let port: UInt16 = 4434

    /// All flows by the names of their files: one for each suite, with IDs of several lengths, IPv4 and IPv6.
    static func all() -> [String: FlowVectors] {
        [
            "aes-128-gcm": FlowVectorMaker(.aes128GCM, Array(0xf1...0xf8), "192.0.2.1", "232.1.2.3", seed: 1).run(),
            "aes-256-gcm": FlowVectorMaker(.aes256GCM, Array(0xa0..<0xb4), "2001:db8::1", "ff3e::8000:1", seed: 2)
                .run(),
            "chacha20-poly1305": FlowVectorMaker(.chaCha20Poly1305, [0x7f], "192.0.2.1", "239.1.2.3", seed: 3).run(),
        ]
    }

    private init(_ suite: CipherSuite, _ id: [UInt8], _ source: String, _ group: String, seed: UInt64) {
        self.source = IPAddress(source)!
        self.group = IPAddress(group)!
        var configuration = FlowConfiguration()
        configuration.suite = suite
        configuration.packetSize = 256
        // The new key's first number lies far ahead of a fast flow.
        configuration.rateCeiling = 1_000_000
        flow = FlowSource(
            flowID: FlowID(id)!,
            parameters: FlowParameters(
                source: self.source, group: self.group, port: Self.port, ackDelay: .milliseconds(25)),
            configuration: configuration, seed: SeededRandom(seed: seed), at: now)
        made = FlowVectors(suite: String(format: "%04x", suite.rawValue), flowID: id.hexadecimal)
    }

    private consuming func run() -> FlowVectors {
        takeActions()
        flow.attach(at: now)
        announce()
        state(.join, sequence: 0)
        for key in flow.joined(at: now) { send(key, sequence: 0) }
        now = now + .milliseconds(30)
        transmit("PING, which shows the receiver that it hears the flow")
        state(.ready, sequence: 1)
        _ = flow.add(streamWindow: 4 << 20, octets: 1 << 20, streams: 100, at: now)
        publish(Array("one item, told to many".utf8))
        publish((0..<700).map { UInt8($0 % 251) })
        var numbers: [UInt64] = []
        for _ in 0..<5 {
            now = now + .milliseconds(5)
            numbers += transmit("STREAM frames").map { [$0] } ?? []
        }
        // The second one was lost.
        acknowledge([0] + numbers.prefix(1) + numbers.dropFirst(2), ecn: .notECT)
        acknowledge([0] + numbers, ecn: .ect0)

        flow.rotateKey()
        now = now + .milliseconds(100)
        flow.timerFired(at: now)
        takeActions(sequence: 1)
        now = now + .seconds(1)
        flow.timerFired(at: now)
        publish(Array("an item under the next key".utf8))
        transmit("the key phase bit is set")
        state(.leave, sequence: 2)
        return made
    }

    private mutating func takeActions(sequence: UInt64 = 0) {
        while let action = flow.nextAction() {
            switch action {
            case .installKey(let key):
                keys[key.generation] = SealingKey(suite: key.suite, secret: key.secret)
                let derive = { (label: String, length: Int) in
                    HKDF.expandLabel(key.suite.hash, secret: key.secret, label, length: length).hexadecimal
                }
                made.keys.append(
                    FlowVectors.Key(
                        generation: key.generation, firstPacketNumber: key.firstPacketNumber,
                        secret: key.secret.hexadecimal, key: derive("quic key", key.suite.keyLength),
                        iv: derive("quic iv", 12), headerProtection: derive("quic hp", key.suite.keyLength)))
            case .sendKey(let key): send(key, sequence: sequence)
            default: break
            }
        }
    }

    private mutating func frame(_ from: String, _ what: String, _ octets: [UInt8], _ frame: FlowVectors.Frame) {
        made.steps.append(FlowVectors.Step(from: from, what: what, octets: octets.hexadecimal, frame: frame))
    }

    private mutating func announce() {
        let parameters = FlowParameters(source: source, group: group, port: Self.port, ackDelay: .milliseconds(25))
        var fields = FlowVectors.Frame(type: "FC_ANNOUNCE", sequence: 0)
        fields.source = "\(source)"
        fields.group = "\(group)"
        fields.port = Self.port
        fields.ackDelayMilliseconds = 25
        frame(
            "source", "where the flow is",
            AnnounceFrame(flowID: flow.flowID, sequence: 0, parameters: parameters).encoded, fields)
    }

    private mutating func state(_ action: StateFrame.Action, sequence: UInt64) {
        let fields = FlowVectors.Frame(type: "FC_STATE", sequence: sequence, action: "\(action)".uppercased())
        frame(
            "receiver", "\(action)", StateFrame(flowID: flow.flowID, sequence: sequence, action: action).encoded, fields
        )
    }

    private mutating func send(_ key: FlowKey, sequence: UInt64) {
        var fields = FlowVectors.Frame(type: "FC_KEY", sequence: sequence)
        fields.packetNumber = key.firstPacketNumber
        fields.secret = key.secret.hexadecimal
        fields.algorithm = String(format: "%04x", key.suite.rawValue)
        frame(
            "source", "the key of generation \(key.generation)",
            KeyFrame(
                flowID: flow.flowID, sequence: sequence, packetNumber: key.firstPacketNumber, suite: key.suite,
                secret: key.secret
            ).encoded, fields)
    }

    /// The flow's first path on the connection is 1.
    private mutating func acknowledge(_ numbers: [UInt64], ecn: ECN) {
        var tracker = AckTracker(maxAckDelay: .milliseconds(25))
        for number in numbers { tracker.received(number, ackEliciting: true, ecn: ecn, at: now) }
        let octets = [UInt8].written(capacity: 100) { writer in
            let isWritten = tracker.writeACK(
                into: &writer, pathID: 1, ackDelayExponent: 3, at: now + .milliseconds(25))
            precondition(isWritten)
        }
        var ranges: [[UInt64]] = []
        for number in numbers.sorted() {
            if let last = ranges.last, last[1] + 1 == number {
                ranges[ranges.count - 1][1] = number
            } else {
                ranges.append([number, number])
            }
        }
        var fields = FlowVectors.Frame(type: "PATH_ACK")
        fields.pathID = 1
        fields.largest = numbers.max()
        fields.encodedAckDelay = 25_000 >> 3
        fields.ranges = ranges.reversed()
        if ecn == .ect0 { fields.ecn = [UInt64(numbers.count), 0, 0] }
        frame(
            "receiver", ecn == .notECT ? "one packet is missing" : "none is missing; ECN marks are counted", octets,
            fields)
    }

    private mutating func publish(_ item: [UInt8]) {
        let publication = flow.publish(StreamOctets(item))
        precondition(publication.onFlow)
        made.streams["\(publication.stream.rawValue)"] = item.hexadecimal
    }

    @discardableResult
    private mutating func transmit(_ what: String) -> UInt64? {
        var octets = [UInt8](repeating: 0, count: 256)
        var plans: [PacketPlan] = []
        do {
            var span = octets.mutableSpan
            var writer = ByteWriter(&span)
            guard flow.transmit(into: &writer, plans: &plans, at: now) else { return nil }
        }
        takeActions(sequence: 1)
        let plan = plans[0]
        let clear = octets
        do {
            var span = octets.mutableSpan
            keys[plan.keyGeneration]!.seal(&span, plan)
        }
        let header = Array(clear[plan.start..<plan.payloadOffset])
        let sealed = Array(octets[plan.start..<plan.end])
        let iv = made.keys.first { $0.generation == plan.keyGeneration }!.iv.octets
        let padded = stride(from: 88, through: 0, by: -8).map { UInt8(truncatingIfNeeded: plan.packetNumber >> $0) }
        let change = zip(header, sealed).map { $0 ^ $1 }
        made.steps.append(
            FlowVectors.Step(
                from: "flow", what: what, octets: sealed.hexadecimal,
                packet: FlowVectors.Packet(
                    number: plan.packetNumber, generation: plan.keyGeneration, header: header.hexadecimal,
                    nonce: zip(iv, padded).map { $0 ^ $1 }.hexadecimal,
                    payload: Array(clear[plan.payloadOffset..<(plan.end - CipherSuite.tagLength)]).hexadecimal,
                    sample: Array(sealed[(plan.packetNumberOffset + 4)...].prefix(16)).hexadecimal,
                    mask: ([change[0]] + change[plan.packetNumberOffset...]).hexadecimal)))
        return plan.packetNumber
    }
}

extension [UInt8] {
    /// Two digits each.
    var hexadecimal: String { map { String(format: "%02x", $0) }.joined() }
}

extension String {
    /// Of two hexadecimal digits each.
    var octets: [UInt8] {
        let digits = Array(utf8)
        return stride(from: 0, to: digits.count - 1, by: 2).map {
            UInt8(String(decoding: digits[$0...($0 + 1)], as: UTF8.self), radix: 16) ?? 0
        }
    }
}
