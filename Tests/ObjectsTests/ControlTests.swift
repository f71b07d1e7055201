import Testing
import Wire

@testable import Objects

@Suite struct ControlTests {
    static func cursor(_ position: UInt64, _ ranges: [Range<UInt64>] = []) -> Cursor {
        var cursor = Cursor(position: position)
        for range in ranges { cursor.settle(range) }
        return cursor
    }

    static let positions: [PositionMessage] = [
        PositionMessage(epoch: nil, cursor: Cursor()),
        PositionMessage(epoch: nil, cursor: Cursor(position: PositionMessage.newest)),
        PositionMessage(
            epoch: epoch, cursor: cursor(1000, [1001..<1002, 5000..<70_000]), wants: .named(["news/", "", "ü"])),
        PositionMessage(
            epoch: epoch, cursor: cursor(3, (0..<64).map { UInt64(10 * $0 + 5)..<UInt64(10 * $0 + 9) }),
            wants: .named((0..<64).map { "prefix \($0)" })),
    ]
    static let logs: [LogMessage] = [
        LogMessage(epoch: epoch, now: noon, oldest: 10, next: 2000, answer: .taken, first: 3),
        LogMessage(
            epoch: Epoch(high: 0, low: 1), now: WallTime(nanoseconds: -1), oldest: 0, next: 1 << 60,
            answer: .otherEpoch,
            first: 0),
        LogMessage(epoch: epoch, now: noon, oldest: 7, next: 7, answer: .fresh, first: 7),
    ]
    static let report: ReportMessage = {
        var report = ReportMessage()
        (report.way, report.objects, report.packetsLost, report.fallbacks) = (.relay, 5, 64, 1)
        (report.count, report.median, report.percent95, report.uncertainty) = (3, 20_000, 90_000, 150)
        return report
    }()
    static let fromClient = positions.map { ControlMessage.position($0) } + [.report(report), .report(ReportMessage())]
    static let fromSource =
        logs.map { ControlMessage.log($0) } + [
            .gap(Gap(first: 0, count: 1, reason: .retention)), .gap(Gap(first: 99, count: 1 << 40, reason: .void)),
            .gap(Gap(first: 5, count: 5, reason: .lifetime)),
            .gap(Gap(first: 5, count: 5, reason: Gap.Reason(rawValue: 77))), .end(0), .end(1 << 60),
        ]

    @Test("The octets of each message, as docs/objects.md shows them") func vectors() throws {
        let position = PositionMessage(
            epoch: nil, cursor: Self.cursor(5, [7..<10, 20..<21]), wants: .named(["ab"]))
        #expect(
            try ControlMessage.position(position).encoded()
                == [0, 12, 1, 0, 5, 2, 2, 3, 10, 1, 1, 2, 0x61, 0x62])
        #expect(
            try ControlMessage.report(Self.report).encoded()
                == [1, 16, 2, 5, 0x40, 64, 1, 3, 0x80, 0, 0x4e, 0x20, 0x80, 1, 0x5f, 0x90, 0x40, 150])
        let log = LogMessage(
            epoch: epoch, now: WallTime(nanoseconds: 2), oldest: 1, next: 9, answer: .fresh, first: 4)
        #expect(
            try ControlMessage.log(log).encoded()
                == [
                    2, 29, 1, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32,
                    0x10,
                ]
                + [0, 0, 0, 0, 0, 0, 0, 2, 1, 9, 2, 4])
        #expect(try ControlMessage.gap(Gap(first: 64, count: 2, reason: .void)).encoded() == [4, 4, 0x40, 64, 2, 1])
        #expect(try ControlMessage.end(63).encoded() == [6, 1, 63])
        #expect("\(epoch)" == "0123456789abcdeffedcba9876543210")
    }

    @Test func everyMessageComesBack() throws {
        for (messages, sender) in [(Self.fromClient, ControlMessage.Sender.client), (Self.fromSource, .source)] {
            let octets = try messages.flatMap { try $0.encoded() }
            #expect(decode([octets], from: sender).items == messages)
            // One octet at a time.
            let outcome = decode(octets.map { [$0] }, from: sender)
            #expect(outcome.items == messages && outcome.error == nil)
            #expect(outcome.most <= ObjectLimits.messageOctets)
        }
    }

    @Test("Unknown odd types are skipped, even ones are errors") func unknownTypes() throws {
        let end = try ControlMessage.end(4).encoded()
        for kind: [UInt8] in [[5], [3], [0x3f], [0x7f, 0xff]] {
            let octets = kind + [3, 9, 9, 9] + end + kind + [0] + end
            #expect(decode(octets.map { [$0] }, from: .source).items == [.end(4), .end(4)])
            #expect(decode([octets], from: .source).items == [.end(4), .end(4)])
        }
        #expect(decode([[8, 0]], from: .source).error == .unknownMessage(8))
        #expect(decode([[5, 2, 9]], from: .source).error == .truncated(.message))
        // What is skipped is bounded as well.
        #expect(decode([[5, 0x80, 0, 0x40, 1]], from: .source).error == .tooLong(.message, limit: 16_384))
    }

    @Test func theWrongSide() throws {
        for message in Self.fromClient {
            #expect(decode([try message.encoded()], from: .source).error == .wrongDirection(message.element))
        }
        for message in Self.fromSource {
            #expect(decode([try message.encoded()], from: .client).error?.code == .unexpected)
        }
    }

    @Test("After an error the decoder says the same again, and holds nothing") func sticks() throws {
        var decoder = ControlDecoder(from: .source)
        for octets: [UInt8] in [[4, 1, 0], try ControlMessage.end(1).encoded()] {
            #expect(throws: ObjectsError.truncated(.gap)) {
                var reader = ByteReader(octets.span)
                _ = try decoder.next(from: &reader)
            }
        }
        #expect(decoder.heldOctets == 0)
    }

    @Test func whatCannotBe() {
        func position(_ body: [UInt8]) -> ObjectsError? {
            decode([[0, UInt8(body.count)] + body], from: .client).error
        }
        func source(_ kind: UInt8, _ body: [UInt8]) -> ObjectsError? {
            decode([[kind, UInt8(body.count)] + body], from: .source).error
        }
        #expect(position([1, 0, 5, 0, 0]) == nil)
        #expect(position([2, 0, 5, 0, 0]) == .version(.position, 2))
        #expect(position([1, 8, 5, 0, 0])?.code == .malformed)  // an epoch of 8 octets
        #expect(position([1, 16, 5, 0, 0]) == .truncated(.position))
        #expect(position([1, 0, 5, 1, 0, 1, 0]) == .ranges(at: 5))  // touches the position
        #expect(position([1, 0, 5, 1, 1, 0, 0]) == .ranges(at: 5))  // empty
        #expect(position([1, 0, 5, 2, 1, 2, 0, 1, 0]) == .ranges(at: 8))  // touches the first
        #expect(
            position([1, 0, 5, 1, 1, 255, 255, 255, 255, 255, 255, 255, 255, 0]) == .ranges(at: 5))  // above the end
        #expect(position([1, 0, 5, 0x40, 65]) == .tooMany(.position, 65, limit: 64))
        #expect(position([1, 0, 5, 0, 0x40, 65]) == .tooMany(.prefix, 65, limit: 64))
        #expect(position([1, 0, 5, 0, 1, 0x44, 1]) == .tooLong(.prefix, limit: 1024))
        #expect(position([1, 0, 5, 0, 1, 1, 0xff]) == .notText(.prefix))
        #expect(position([1, 0, 5, 0, 0, 7]) == .surplus(.position, 1))
        func report(_ body: [UInt8]) -> ObjectsError? {
            decode([[1, 0x40, UInt8(body.count)] + body], from: .client).error
        }
        let least: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0]
        #expect(report(least) == nil && report(least + [1, 2, 3]) == nil)  // what a later version says is skipped
        #expect(report(Array(least.dropLast())) == .truncated(.report))
        #expect(report([3] + least.dropFirst())?.code == .malformed)  // no such way
        #expect(
            decode([[1, 0x41, 1] + [UInt8](repeating: 0, count: 257)], from: .client).error
                == .tooLong(.report, limit: 256))
        #expect(source(4, [5, 0, 0])?.code == .malformed)  // no number
        #expect(source(4, [5, 255, 255, 255, 255, 255, 255, 255, 255, 0])?.code == .malformed)
        #expect(source(6, [0xd0, 0, 0, 0, 0, 0, 0, 1])?.code == .malformed)
        #expect(source(6, []) == .truncated(.end))
        let head: [UInt8] = [1] + [UInt8](repeating: 0, count: 24)
        #expect(source(2, head + [4, 9, 0, 4]) == nil)
        #expect(source(2, head + [9, 4, 0, 4])?.code == .malformed)  // oldest above next
        #expect(source(2, head + [4, 9, 3, 4])?.code == .malformed)  // no such answer
        #expect(source(2, head + [4, 9, 0, 10])?.code == .malformed)  // first above next
        #expect(source(2, head + [4, 9, 1, 3])?.code == .malformed)  // first below oldest, and not taken
        #expect(source(2, [3] + head.dropFirst() + [4, 9, 0, 4]) == .version(.log, 3))
        #expect(decode([[0, 0x80, 0, 0x40, 1]], from: .client).error == .tooLong(.message, limit: 16_384))
    }

    @Test func whatIsNotWritten() {
        let long = (0..<64).map { String(repeating: "x", count: 900) + "\($0)" }
        #expect(throws: ObjectsError.tooLong(.message, limit: 16_384)) {
            try ControlMessage.position(PositionMessage(epoch: nil, cursor: Cursor(), wants: .named(long))).encoded()
        }
        #expect(throws: ObjectsError.tooMany(.prefix, 65, limit: 64)) {
            try ControlMessage.position(
                PositionMessage(epoch: nil, cursor: Cursor(), wants: .named(long.map { _ in "" } + [""]))
            ).encoded()
        }
        #expect(throws: ObjectsError.self) {
            try ControlMessage.position(PositionMessage(epoch: nil, cursor: Cursor(), wants: .named([]))).encoded()
        }
        #expect(throws: ObjectsError.self) { try ControlMessage.gap(Gap(first: 1, count: 0, reason: .void)).encoded() }
    }

    @Test("A second POSITION replaces the wants; its position must not go back") func second() throws {
        let first = PositionMessage(epoch: epoch, cursor: Cursor(position: 10))
        var stated = StatedPosition(first, in: epoch, isTaken: true)
        #expect(stated.wants == .everything)
        try stated.replace(with: PositionMessage(epoch: epoch, cursor: Cursor(position: 12), wants: .named(["a"])))
        #expect(stated.wants == .named(["a"]))
        #expect(throws: ObjectsError.positionWentBack(from: 12, to: 11)) {
            try stated.replace(with: PositionMessage(epoch: epoch, cursor: Cursor(position: 11)))
        }
        #expect(stated.wants == .named(["a"]))
        // One that was written before the client knew of the epoch says nothing of its position.
        try stated.replace(with: PositionMessage(epoch: nil, cursor: Cursor()))
        #expect(stated.wants == .everything)
    }

    @Test("Random and mutated messages: no trap, and the same outcome however they are cut", arguments: seeds)
    func fuzz(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        for round in 0..<600 {
            let sender: ControlMessage.Sender = random.chance(0.5) ? .client : .source
            let messages = sender == .client ? Self.fromClient : Self.fromSource
            var octets = try (0...random.below(3)).flatMap { _ in try messages[random.below(messages.count)].encoded() }
            octets = round % 4 == 0 ? random.octets(random.below(60)) : random.mutated(octets)
            var whole = decode([octets], from: sender)
            var cut = decode(random.pieces(of: octets), from: sender)
            #expect(max(whole.most, cut.most) <= ObjectLimits.messageOctets)
            (whole.most, cut.most) = (0, 0)
            #expect(whole == cut, "seed \(seed), round \(round): \(octets)")
            for message in whole.items {
                let again = decode([try message.encoded()], from: sender)
                #expect(again.items == [message], "seed \(seed), round \(round)")
            }
        }
    }
}
