import Testing
import Wire

@testable import Objects

@Suite("A log that follows another")
struct FollowedLogTests {
    private static let epoch = Epoch(high: 7, low: 9)

    private static func message(
        _ sequence: UInt64, _ body: String = "x", name: String? = nil, part: String? = nil, length: String? = nil
    ) -> LoggedMessage {
        LoggedMessage(
            sequence: sequence, time: WallTime(nanoseconds: Int64(sequence)), name: name, part: part, length: length,
            body: Array(body.utf8))
    }

    /// What a head makes of these messages, and what it has told those who were there from the start.
    private static func follow(
        _ messages: [LoggedMessage], from first: UInt64 = 1, retention: Retention = Retention()
    ) throws -> (log: ObjectLog, reader: MessageReader, gaps: [Gap]) {
        var log = try ObjectLog(following: epoch, from: first, retention: retention)
        var reader = MessageReader(from: first)
        var gaps: [Gap] = []
        for message in messages {
            for entry in reader.read(message) {
                gaps += try log.follow(entry)
                #expect(log.checkInvariants() == nil)
            }
        }
        return (log, reader, gaps)
    }

    /// All that a newcomer is given, in order, by number: a part's body, or why there is none.
    private static func given(_ log: ObjectLog, from first: UInt64 = 1) -> [String] {
        var cursor = Cursor(position: first)
        var given: [String] = []
        while true {
            switch log.read(cursor) {
            case .edge: return given
            case .part(let part):
                given.append("\(part.sequence) \(String(decoding: part.body, as: UTF8.self))")
                cursor.settle(part.sequence)
            case .stored(let part):
                given.append("\(part.sequence) on a disk that it has not")
                cursor.settle(part.sequence)
            case .gap(let gap):
                given.append("\(gap.first)+\(gap.count) \(gap.reason)")
                cursor.settle(gap.range)
            }
        }
    }

    @Test("Objects have the numbers of their messages, and the time at which the log took them")
    func numbers() throws {
        let (log, reader, gaps) = try Self.follow([
            Self.message(1, "a", name: "one"), Self.message(2, "b"), Self.message(3, "c", name: "three"),
        ])
        #expect(Self.given(log) == ["1 a", "2 b", "3 c"])
        #expect((log.oldest, log.next, log.objectCount) == (1, 4, 3))
        #expect(log.first(ofNewest: 2) == 2)
        guard case .part(let part) = log.part(at: 3) else { throw Failed() }
        #expect(part.header.name == "three" && part.header.published.nanoseconds == 3 && part.header.count == 1)
        #expect(gaps.isEmpty && reader.refused == 0)
    }

    @Test("Parts of an object are messages in a row; what its first says holds for all")
    func parts() throws {
        let (log, _, gaps) = try Self.follow([
            Self.message(1, "ab", name: "long", part: "1/3", length: "5"), Self.message(2, "cd", part: "2/3"),
            Self.message(3, "e", part: "3/3"), Self.message(4, "next"),
        ])
        #expect(Self.given(log) == ["1 ab", "2 cd", "3 e", "4 next"])
        #expect(gaps.isEmpty && log.objectCount == 2)
        guard case .part(let last) = log.part(at: 3) else { throw Failed() }
        #expect(last.header.name == "long" && last.header.object == 1 && last.header.length == 5)
        #expect(last.header.published.nanoseconds == 1)
    }

    @Test("An object whose writer died is void, for those who have its beginning too; the next is whole")
    func givenUp() throws {
        let (log, reader, gaps) = try Self.follow([
            Self.message(1, "a", part: "1/3"), Self.message(2, "b", part: "2/3"), Self.message(3, "other"),
            Self.message(4, "late", part: "3/3"), Self.message(5, "end"),
        ])
        #expect(Self.given(log) == ["1+2 never filled", "3 other", "4+1 never filled", "5 end"])
        #expect(gaps == [Gap(first: 1, count: 2, reason: .void), Gap(first: 4, count: 1, reason: .void)])
        #expect(reader.refused == 1 && reader.lastRefusal?.contains("message 4") == true)
    }

    @Test(
        "A message that is no object is void and counted, and says why",
        arguments: [
            ("0/1", nil, 1, 1, "2/5"), ("2/1", nil, 1, 1, "2/5"), ("x", nil, 1, 1, "2/5"),
            ("1/99999999999999999999", nil, 1, 1, "2/5"), ("1/2", "-1", 1, 1, "Flexicast-Length"),
            ("2/2", nil, 1, 1, "does not follow"), (nil, nil, 1025, 1, "name"),
            (nil, nil, 1, ObjectLimits.partOctets + 1, "object length"),
            ("1/2", nil, 1, ObjectLimits.partOctets + 1, "\(ObjectLimits.partOctets)"),
        ] as [(String?, String?, Int, Int, String)])
    func noObject(part: String?, length: String?, name: Int, body: Int, why: String) throws {
        let message = Self.message(
            2, String(repeating: "o", count: body), name: String(repeating: "n", count: name), part: part,
            length: length)
        let (log, reader, gaps) = try Self.follow([Self.message(1, "a"), message, Self.message(3, "c")])
        #expect(Self.given(log) == ["1 a", "2+1 never filled", "3 c"])
        #expect(gaps == [Gap(first: 2, count: 1, reason: .void)])
        #expect(reader.refused == 1 && reader.lastRefusal?.contains(why) == true, "\(reader.lastRefusal ?? "")")
    }

    @Test("What the log has lost is a gap, for those who are there and for those who come later; an object in it fails")
    func lost() throws {
        let (log, reader, gaps) = try Self.follow([
            Self.message(1, "a"), Self.message(2, "b", part: "1/2"), Self.message(9, "i"), Self.message(10, "j"),
        ])
        #expect(
            gaps == [
                Gap(first: 2, count: 1, reason: .void), Gap(first: 3, count: 6, reason: .retention),
            ])
        #expect(Self.given(log) == ["1 a", "2+1 never filled", "3+6 no longer kept", "9 i", "10 j"])
        #expect(reader.lost == 6)
    }

    @Test("A log that was emptied is gone up to where it begins anew")
    func purged() throws {
        var (log, reader, _) = try Self.follow([Self.message(1, "a")])
        let skipped = reader.skip(to: 5)
        let loss = try #require(skipped)
        let told = try log.follow(loss)
        #expect(told == [Gap(first: 2, count: 3, reason: .retention)])
        let again = reader.skip(to: 5)
        #expect(again == nil)
        for entry in reader.read(Self.message(5, "e")) { _ = try log.follow(entry) }
        #expect(Self.given(log) == ["1 a", "2+3 no longer kept", "5 e"])
    }

    @Test("Messages that come twice are taken once")
    func again() throws {
        let messages = [Self.message(1, "a"), Self.message(2, "b")]
        let (log, reader, gaps) = try Self.follow(messages + messages + [Self.message(3, "c")])
        #expect(Self.given(log) == ["1 a", "2 b", "3 c"])
        #expect(gaps.isEmpty && reader.refused == 0)
    }

    @Test("One that begins inside of an object has the next, and says nothing of the rest as kept")
    func inside() throws {
        let (log, _, _) = try Self.follow(
            [Self.message(5, "b", part: "2/2"), Self.message(6, "c"), Self.message(7, "d")], from: 5)
        #expect((log.oldest, log.objectCount) == (6, 2))
        #expect(Self.given(log, from: 1) == ["1+5 no longer kept", "6 c", "7 d"])
    }

    @Test("Retention forgets the oldest, and losses below it")
    func retention() throws {
        let (log, _, _) = try Self.follow(
            [1, 5, 6, 7].map { Self.message($0) }, retention: Retention(objects: 2, octets: nil))
        #expect(log.oldest == 6 && log.forgotten.isEmpty)
        #expect(Self.given(log) == ["1+5 no longer kept", "6 x", "7 x"])
    }

    @Test("A receiver from a head that had read further is not sent to the beginning")
    func ahead() throws {
        let (log, _, _) = try Self.follow([Self.message(1), Self.message(2), Self.message(3)])
        var cursor = Cursor(position: 7)
        cursor.settle(9)
        let (answer, from) = log.answer(
            PositionMessage(epoch: Self.epoch, cursor: cursor), at: WallTime(nanoseconds: 0))
        #expect(answer.answer == .taken && answer.first == 4 && from.position == 4)
        #expect(throws: Never.self) { try ControlMessage.log(answer).encoded() }
        // One of a log that is nobody else's is in another epoch.
        let own = try ObjectLog(MemoryStore(epoch: Self.epoch))
        #expect(
            own.answer(PositionMessage(epoch: Self.epoch, cursor: cursor), at: WallTime(nanoseconds: 0)).message.answer
                == .otherEpoch)
    }

    private struct Failed: Error {}
}
