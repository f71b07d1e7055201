import QUIC
import Testing
import Wire

@testable import Flexicast
@testable import Objects

/// What a peer may not send on the control stream or in a part: a clear error, and only for the one that sent it.
@Suite struct BadPeerTests {
    struct Case: CustomTestStringConvertible, Sendable {
        var name: String
        var octets: [UInt8]
        var code: UInt64
        /// What the reason of the close says.
        var words: String
        var ends = false
        var testDescription: String { name }
    }

    /// A message with this body.
    static func message(_ kind: UInt64, _ body: [UInt8]) -> [UInt8] {
        var out: [UInt8] = []
        append(kind, to: &out)
        append(UInt64(body.count), to: &out)
        return out + body
    }

    static func append(_ value: UInt64, to out: inout [UInt8]) {
        out += [UInt8].written(capacity: 8) { $0.varint(value) }
    }

    static let log = try! ControlMessage.log(
        LogMessage(
            epoch: SourceBench.epoch, now: WallTime(nanoseconds: 0), oldest: 0, next: 0, answer: .fresh, first: 0)
    ).encoded()
    static let newest = try! ControlMessage.position(
        PositionMessage(epoch: nil, cursor: Cursor(position: PositionMessage.newest))
    ).encoded()
    static func later(_ answer: LogMessage.Answer) -> [UInt8] {
        try! ControlMessage.log(
            LogMessage(
                epoch: answer == .otherEpoch ? Epoch(high: 8, low: 8) : SourceBench.epoch,
                now: WallTime(nanoseconds: 0), oldest: 0, next: 0, answer: answer, first: 0)
        ).encoded()
    }
    static let manyRanges: [UInt8] = [1, 0, 5, 0x40, 65] + (0..<65).flatMap { _ in [1, 1] as [UInt8] } + [0]

    static let toSource: [Case] = [
        Case(name: "rubbish", octets: [0x3e, 0xff, 0x17], code: 0x14, words: "type 62 is not known"),
        Case(name: "rubbish in POSITION", octets: message(0, [1, 3, 9, 9, 9]), code: 0x12, words: "must be 0 or 16"),
        Case(name: "unknown version", octets: message(0, [2, 0, 5, 0, 0]), code: 0x10, words: "version 2"),
        Case(name: "ranges touch", octets: message(0, [1, 0, 5, 1, 0, 3, 0]), code: 0x13, words: "must ascend"),
        Case(name: "an empty range", octets: message(0, [1, 0, 5, 1, 2, 0, 0]), code: 0x13, words: "must ascend"),
        Case(
            name: "ranges past the end",
            octets: message(0, [1, 0, 5, 2] + [UInt8](repeating: 0xff, count: 16) + [1, 1, 0]), code: 0x13,
            words: "must ascend"),
        Case(name: "65 ranges", octets: message(0, manyRanges), code: 0x11, words: "at most 64"),
        Case(
            name: "position beyond all", octets: message(0, [1, 0] + [UInt8](repeating: 0xff, count: 8) + [0, 0]),
            code: 0x12, words: "at most 2^60"),
        Case(name: "octets left over", octets: message(0, [1, 0, 5, 0, 0, 9]), code: 0x12, words: "1 octets follow"),
        Case(name: "octets missing", octets: message(0, [1, 0, 5]), code: 0x12, words: "ends inside"),
        Case(
            name: "a message of 2^62 octets", octets: [0] + [UInt8](repeating: 0xff, count: 8), code: 0x11,
            words: "at most 16384 octets"),
        Case(name: "prefix not UTF-8", octets: message(0, [1, 0, 5, 0, 1, 1, 0xff]), code: 0x12, words: "UTF-8"),
        Case(name: "LOG from a receiver", octets: log, code: 0x14, words: "LOG came from the wrong side"),
        Case(
            name: "GAP from a receiver", octets: message(4, [1, 1, 0]), code: 0x14,
            words: "GAP came from the wrong side"),
        Case(name: "END from a receiver", octets: message(6, [1]), code: 0x14, words: "END came from the wrong side"),
        Case(
            name: "it ends in the middle", octets: Array(newest.dropLast()), code: 0x12, words: "ends inside",
            ends: true),
        Case(name: "it ends in the framing", octets: [0], code: 0x12, words: "ends inside", ends: true),
    ]

    @Test(arguments: toSource)
    func atTheSource(bad: Case) throws {
        // In one piece, and octet by octet.
        for isSplit in [false, true] {
            let bench = SourceBench()
            let honest = bench.connect()
            bench.stateNewest(honest)
            bench.makeMember(honest)
            let plain = bench.connect()
            bench.stateNewest(plain)
            let receiver = bench.connect()
            if isSplit {
                for (place, octet) in bad.octets.enumerated() where receiver.link.closedWith == nil {
                    bench.say([octet], receiver, ends: bad.ends && place == bad.octets.count - 1)
                }
            } else {
                bench.say(bad.octets, receiver, ends: bad.ends)
            }
            let closed = try #require(receiver.link.closedWith)
            #expect(closed.code == bad.code)
            #expect(closed.reason.contains(bad.words), "\(closed.reason)")
            #expect(closed.reason.hasPrefix("control stream: "))
            #expect(bench.server.controlErrors == 1)
            bench.handle(.closed(.idleTimeout), receiver)
            bench.server.forget(receiver.id, at: bench.now)
            // The others go on: one gets the next part from the flow, the other on its connection.
            bench.publish(10)
            #expect(bench.transmit().count >= 1)
            bench.serve(plain)
            #expect(bench.takeWhole(plain) == [0])
            #expect(bench.server.isMember(honest.id))
            #expect(honest.link.error == nil && plain.link.error == nil)
            #expect(bench.server.checkInvariants() == nil)
        }
    }

    static let toReceiver: [Case] = [
        Case(name: "rubbish", octets: [0x3e, 0xff, 0x17], code: 0x14, words: "type 62 is not known"),
        Case(name: "unknown version", octets: message(2, [2] + log.dropFirst(3)), code: 0x10, words: "version 2"),
        Case(name: "octets missing", octets: message(2, [1, 0, 0]), code: 0x12, words: "ends inside"),
        Case(name: "an empty GAP", octets: message(4, [5, 0, 0]), code: 0x12, words: "GAP"),
        Case(
            name: "GAP past the end", octets: message(4, [5] + [UInt8](repeating: 0xff, count: 8) + [0]), code: 0x12,
            words: "GAP"),
        Case(
            name: "END past the end", octets: message(6, [UInt8](repeating: 0xff, count: 8)), code: 0x12,
            words: "at most 2^60"),
        Case(
            name: "a message of 2^62 octets", octets: [2] + [UInt8](repeating: 0xff, count: 8), code: 0x11,
            words: "at most 16384 octets"),
        Case(name: "POSITION from the source", octets: newest, code: 0x14, words: "POSITION came from the wrong side"),
        Case(
            name: "it takes a position in another epoch",
            octets: later(.taken), code: 0x15, words: "another epoch"),
        Case(name: "a second LOG for a newcomer", octets: log + log, code: 0x15, words: "answers the position anew"),
        Case(
            name: "a second LOG of another epoch", octets: log + later(.otherEpoch), code: 0x15,
            words: "answers the position anew"),
        Case(name: "GAP before LOG", octets: message(4, [1, 1, 0]), code: 0x14, words: "GAP came before LOG"),
        Case(name: "END before LOG", octets: message(6, [1]), code: 0x14, words: "END came before LOG"),
        Case(
            name: "it ends in the middle", octets: Array(log.dropLast()), code: 0x12, words: "ends inside", ends: true),
        Case(name: "it ends with nothing", octets: [], code: 0x16, words: "ended before LOG", ends: true),
    ]

    @Test(arguments: toReceiver)
    func atTheReceiver(bad: Case) throws {
        var link = StandInClientLink()
        var client = FlowClient(seed: SeededRandom(seed: 1))
        let now = Instant(nanoseconds: 1_000_000_000)
        client.handle(.connected, on: &link, at: now)
        link.said = bad.octets
        link.saysNoMore = bad.ends
        client.handle(.streamReadable(.control), on: &link, at: now)
        let closed = try #require(link.closedWith)
        #expect(closed.code == bad.code)
        #expect(closed.reason.contains(bad.words), "\(closed.reason)")
        #expect(client.assembler.checkInvariants() == nil)
    }

    /// A source that resets the control stream, or will not read it, ends the connection, before LOG and after it.
    @Test(arguments: [
        ConnectionEvent.streamReset(.control, code: 7), .streamStopped(.control, code: 7),
    ])
    func theSourceCutsTheControlStreamOff(event: ConnectionEvent) throws {
        for knowsLog in [false, true] {
            var link = StandInClientLink()
            var client = FlowClient(seed: SeededRandom(seed: 1))
            let now = Instant(nanoseconds: 1_000_000_000)
            client.handle(.connected, on: &link, at: now)
            if knowsLog {
                link.said = Self.log
                client.handle(.streamReadable(.control), on: &link, at: now)
            }
            client.handle(event, on: &link, at: now)
            let closed = try #require(link.closedWith)
            #expect(closed.code == 0x16)
            #expect(closed.reason == "control stream: \(ObjectsError.controlCutOff)")
        }
    }

    /// A receiver that breaks a rule, and goes on in the same datagram: what follows is not taken, then or later.
    @Test func nothingIsTakenAfterAViolation() throws {
        let bench = SourceBench()
        let honest = bench.connect()
        bench.stateNewest(honest)
        bench.makeMember(honest)
        let receiver = bench.connect()
        bench.stateNewest(receiver)
        bench.send(.join, receiver)
        try receiver.frames.pathAcknowledged(pathID: 9, ranges: [0...0], ackDelay: .zero, at: bench.now)
        bench.send(.ready, receiver)
        #expect(receiver.link.error?.code == .protocolViolation)
        _ = receiver.link.takeFrames()
        bench.serve(receiver)
        bench.state(PositionMessage(epoch: SourceBench.epoch, cursor: Cursor(position: 0)), receiver)
        #expect(!bench.server.isMember(receiver.id) && bench.server.isMember(honest.id))
        #expect(receiver.link.takeFrames().isEmpty)
        #expect(bench.server.controlErrors == 0 && bench.server.receiverCount == 1)
        #expect(bench.server.checkInvariants() == nil)
    }

    // MARK: Parts

    /// A part's stream that says this of itself.
    static func part(_ header: PartHeader, _ body: [UInt8] = [1, 2, 3]) -> [UInt8] {
        [UInt8].written(capacity: header.preludeLength) { header.write(header.preludeLength, into: &$0) } + body
    }

    static func header(_ sequence: UInt64, index: UInt64 = 0, count: UInt64 = 1, length: UInt64 = 3, name: String = "")
        -> PartHeader
    {
        PartHeader(
            sequence: sequence, index: index, count: count, length: length, published: WallTime(nanoseconds: 0),
            name: name)
    }

    struct BadPart: CustomTestStringConvertible, Sendable {
        var name: String
        /// Streams by number; the last one is what is bad.
        var streams: [(UInt64, [UInt8])]
        var object: UInt64
        var code: UInt64
        var testDescription: String { name }
    }

    static let huge: [UInt8] = [UInt8](repeating: 0xff, count: 8)
    static let parts: [BadPart] = [
        BadPart(name: "rubbish", streams: [(4, [0xff, 1, 2, 3])], object: 4, code: 0x12),
        BadPart(name: "nothing", streams: [(4, [])], object: 4, code: 0x12),
        BadPart(name: "unknown version", streams: [(4, [2] + part(header(4)).dropFirst())], object: 4, code: 0x10),
        BadPart(name: "a header of 2^62 octets", streams: [(4, [1] + huge)], object: 4, code: 0x11),
        BadPart(
            name: "an object of 2^62 octets",
            streams: [(4, [1, 21, 4, 0, 1] + huge + [0, 0, 0, 0, 0, 0, 0, 0, 0, 0])], object: 4, code: 0x12),
        BadPart(name: "another number than its stream's", streams: [(4, part(header(9)))], object: 4, code: 0x15),
        BadPart(name: "another length than is said", streams: [(4, part(header(4, length: 2)))], object: 4, code: 0x15),
        BadPart(
            name: "another name than its object",
            streams: [
                (4, part(header(4, count: 2, length: 6, name: "a"))),
                (5, part(header(5, index: 1, count: 2, length: 6, name: "b"))),
            ], object: 4, code: 0x15),
        BadPart(
            name: "another count than its object",
            streams: [
                (4, part(header(4, count: 2, length: 6))), (5, part(header(5, index: 1, count: 3, length: 6))),
            ], object: 4, code: 0x15),
    ]

    @Test(arguments: parts)
    func inAPart(bad: BadPart) throws {
        var link = StandInClientLink()
        var client = FlowClient(seed: SeededRandom(seed: 1))
        let now = Instant(nanoseconds: 1_000_000_000)
        client.handle(.connected, on: &link, at: now)
        link.said = Self.log
        client.handle(.streamReadable(.control), on: &link, at: now)
        for (number, octets) in bad.streams { Self.bring(number, octets, to: &client, on: &link, at: now) }
        var failed: [UInt64] = []
        var code: UInt64?
        while let action = client.nextAction() {
            switch action {
            case .failed(let failure):
                failed.append(failure.object)
                if case .malformed(let error) = failure.reason { code = error.code.rawValue }
            case .object(let object): Issue.record("object \(object.first) was given out")
            default: break
            }
        }
        #expect(failed == [bad.object])
        #expect(code == bad.code)
        // Nothing else is touched, the number that it claimed included.
        for number: UInt64 in [3, 9] {
            Self.bring(number, Self.part(Self.header(number)), to: &client, on: &link, at: now)
        }
        var whole: [UInt64] = []
        while let action = client.nextAction() { if case .object(let object) = action { whole.append(object.first) } }
        #expect(whole == [3, 9])
        #expect(link.closedWith == nil)
        #expect(client.assembler.checkInvariants() == nil)
    }

    static func bring(
        _ number: UInt64, _ octets: [UInt8], to client: inout FlowClient, on link: inout StandInClientLink,
        at now: Instant
    ) {
        let id = StreamID(initiator: .server, bidirectional: false, index: number)
        link.streams[id] = .whole(StreamChunk(bytes: octets, offset: 0, isFinished: true))
        client.handle(.streamOpened(id), on: &link, at: now)
        client.handle(.streamReadable(id), on: &link, at: now)
    }

    /// A stream that is longer than a part may be is refused while it comes, and its object alone fails.
    @Test func aPartThatDoesNotEnd() {
        var link = StandInClientLink()
        var client = FlowClient(seed: SeededRandom(seed: 1))
        let now = Instant(nanoseconds: 1_000_000_000)
        client.handle(.connected, on: &link, at: now)
        link.said = Self.log
        client.handle(.streamReadable(.control), on: &link, at: now)
        let id = StreamID(initiator: .server, bidirectional: false, index: 4)
        link.streams[id] = .part(ObjectLimits.streamOctets + 1)
        client.handle(.streamReadable(id), on: &link, at: now)
        #expect(link.stopped[id] == 0x11)
        #expect(link.closedWith == nil)
    }
}
