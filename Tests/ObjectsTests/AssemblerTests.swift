import Testing
import Wire

@testable import Objects

@Suite struct AssemblerTests {
    /// A part of an object whose parts have one octet each.
    static func header(
        _ object: UInt64, _ index: UInt64 = 0, of count: UInt64? = 1, length: UInt64? = nil, name: String = "n"
    ) -> PartHeader {
        PartHeader(
            sequence: object + index, index: index, count: count, length: length ?? count, published: noon,
            mediaType: "m", name: name)
    }

    static func failure(_ object: UInt64, _ reason: FailureReason, name: String? = "n") -> AssemblyFailure {
        AssemblyFailure(object: object, name: name, reason: reason)
    }

    static func object(_ answer: PartAnswer) -> ReceivedObject? {
        if case .object(let object) = answer { object } else { nil }
    }

    @Test func onePartAtOnceAndOnce() throws {
        var assembler = ObjectAssembler()
        _ = try assembler.logReceived(
            LogMessage(epoch: epoch, now: noon, oldest: 0, next: 9, answer: .fresh, first: 0), roundTrip: .zero,
            at: start)
        let answer = assembler.receive(
            Self.header(4), body: [1], stream: 4, via: .flow, at: start + .milliseconds(30))
        #expect(
            answer
                == .object(
                    ReceivedObject(
                        first: 4, count: 1, name: "n", mediaType: "m", published: noon, body: [1], octetsFromFlow: 1,
                        latency: .milliseconds(30))))
        #expect(assembler.receive(Self.header(4), body: [1], via: .connection, at: start) == .duplicate)
        #expect(assembler.resume.ranges == [4..<5] && assembler.settledBelow == 0)
        #expect(assembler.statistics.duplicates == 1 && assembler.statistics.objects == 1)
        #expect(assembler.checkInvariants() == nil)
    }

    @Test func severalPartsInAnyOrder() {
        var assembler = ObjectAssembler()
        #expect(assembler.receive(Self.header(0, 2, of: 3), body: [2], via: .flow, at: start) == .held)
        #expect(assembler.receive(Self.header(0, 0, of: nil), body: [0], via: .connection, at: start) == .held)
        #expect(assembler.receive(Self.header(0, 0, of: 3), body: [0], via: .flow, at: start) == .duplicate)
        // A restart would lose what is held, a cut connection would not.
        #expect(assembler.resume == Cursor() && assembler.statement.position == 1)
        #expect(assembler.position().cursor.ranges == [2..<3])
        let object = Self.object(assembler.receive(Self.header(0, 1, of: 3), body: [1], via: .flow, at: start))
        #expect(object?.body == [0, 1, 2] && object?.count == 3 && object?.octetsFromFlow == 2)
        #expect(assembler.settledBelow == 3 && assembler.heldOctets == 0 && assembler.objectsHeld == 0)
        #expect(assembler.receive(Self.header(0, 1, of: 3), body: [1], via: .flow, at: start) == .duplicate)
    }

    @Test func partByPart() {
        var assembler = ObjectAssembler(mode: .parts)
        for (index, count) in [(0, nil), (2, nil), (1, nil)] as [(UInt64, UInt64?)] {
            guard
                case .part(let part) = assembler.receive(
                    Self.header(5, index, of: count), body: [9], via: .flow, at: start)
            else { return #expect(Bool(false)) }
            #expect(part.header.index == index && part.body == [9] && !part.completes)
        }
        #expect(assembler.heldOctets == 0 && assembler.resume.ranges == [5..<8])
        guard case .part(let last) = assembler.receive(Self.header(5, 3, of: 4), body: [9], via: .flow, at: start)
        else { return #expect(Bool(false)) }
        #expect(last.completes && assembler.objectsHeld == 0 && assembler.checkInvariants() == nil)
        // One cut short before a restart goes on after it; that it is whole is for who kept the others to see.
        assembler = ObjectAssembler(resuming: epoch, at: ControlTests.cursor(0, [10..<12]), mode: .parts)
        guard case .part(let third) = assembler.receive(Self.header(10, 2, of: 3), body: [9], via: .flow, at: start)
        else { return #expect(Bool(false)) }
        #expect(!third.completes && assembler.objectsHeld == 0 && assembler.takeNotices().isEmpty)
    }

    @Test("A part that contradicts its object ends it, and it alone") func contradictions() {
        let good = Self.header(10, 0, of: 3)
        var changed: [(ObjectsError.Field, PartHeader, [UInt8])] = []
        func change(_ field: ObjectsError.Field, body: [UInt8] = [1], _ edit: (inout PartHeader) -> Void) {
            var header = Self.header(10, 1, of: 3)
            edit(&header)
            changed.append((field, header, body))
        }
        change(.name) { $0.name = "N" }
        change(.mediaType) { $0.mediaType = "M" }
        change(.published) { $0.published = noon + .nanoseconds(1) }
        change(.count) { $0.count = 4 }
        change(.length) { $0.length = 4 }
        change(.length, body: [1, 2, 3]) { _ in }
        for mode in [ObjectAssembler.Mode.whole, .parts] {
            for (field, header, body) in changed {
                var assembler = ObjectAssembler(mode: mode)
                _ = assembler.receive(Self.header(30, 1, of: 2), body: [7], via: .flow, at: start)
                _ = assembler.receive(good, body: [0], via: .flow, at: start)
                #expect(
                    assembler.receive(header, body: body, via: .flow, at: start)
                        == .failed(Self.failure(10, .malformed(.contradiction(field, object: 10)))))
                #expect(assembler.resume.ranges.first == 10..<13 && assembler.checkInvariants() == nil)
                #expect(assembler.receive(Self.header(10, 2, of: 3), body: [1], via: .flow, at: start) == .duplicate)
                // The other object goes on.
                switch assembler.receive(Self.header(30, 0, of: 2), body: [7], via: .flow, at: start) {
                case .object, .part: break
                default: Issue.record("the other object ended too")
                }
            }
        }
    }

    @Test func lengthsThatDoNotMatch() {
        var assembler = ObjectAssembler()
        #expect(
            assembler.receive(Self.header(0, length: 3), body: [1], via: .flow, at: start)
                == .failed(Self.failure(0, .malformed(.contradiction(.length, object: 0)))))
        _ = assembler.receive(Self.header(1, 0, of: 2, length: 3), body: [1], via: .flow, at: start)
        #expect(
            assembler.receive(Self.header(1, 1, of: 2, length: 3), body: [1], via: .flow, at: start)
                == .failed(Self.failure(1, .malformed(.contradiction(.length, object: 1)))))
        // Fewer parts than came already.
        _ = assembler.receive(Self.header(3, 2, of: nil), body: [1], via: .flow, at: start)
        #expect(
            assembler.receive(Self.header(3, 1, of: 2), body: [1], via: .flow, at: start)
                == .failed(Self.failure(3, .malformed(.contradiction(.count, object: 3)))))
        // A part of an ended object of unknown length is known for what it is.
        #expect(assembler.receive(Self.header(3, 3, of: nil), body: [1], via: .flow, at: start) == .ended)
        #expect(assembler.receive(Self.header(3, 4, of: 6), body: [1], via: .flow, at: start) == .ended)
        #expect(assembler.settledBelow == 9 && assembler.objectsHeld == 0 && assembler.checkInvariants() == nil)
    }

    @Test("Two objects cannot share a number") func overlaps() {
        var assembler = ObjectAssembler()
        _ = assembler.receive(Self.header(10, 1, of: 4), body: [1], via: .flow, at: start)
        for part in [Self.header(12), Self.header(8, 0, of: 3), Self.header(13, 2, of: nil)] {
            #expect(
                assembler.receive(part, body: [1], via: .flow, at: start)
                    == .failed(Self.failure(part.object, .malformed(.contradiction(.sequence, object: part.object)))))
            #expect(assembler.checkInvariants() == nil)
        }
        for index: UInt64 in [0, 2] {
            _ = assembler.receive(Self.header(10, index, of: 4), body: [1], via: .flow, at: start)
        }
        let answer = assembler.receive(Self.header(10, 3, of: 4), body: [1], via: .flow, at: start)
        #expect(Self.object(answer)?.body == [1, 1, 1, 1])
    }

    @Test("A stream whose part says another number fails what the stream's number belongs to") func streamNumbers() {
        var assembler = ObjectAssembler()
        _ = assembler.receive(Self.header(10, 0, of: 2), body: [1], via: .flow, at: start)
        let wrong = FailureReason.malformed(.contradiction(.sequence, object: 11))
        #expect(
            assembler.receive(Self.header(20), body: [1], stream: 11, via: .flow, at: start)
                == .failed(Self.failure(10, wrong)))
        #expect(assembler.resume.ranges == [10..<12])
        // What it said of 20 was not believed.
        #expect(Self.object(assembler.receive(Self.header(20), body: [1], stream: 20, via: .flow, at: start)) != nil)
        let alone = FailureReason.malformed(.contradiction(.sequence, object: 30))
        #expect(
            assembler.receive(Self.header(31), body: [1], stream: 30, via: .flow, at: start)
                == .failed(Self.failure(30, alone, name: nil)))
        #expect(assembler.partFailed(30, .truncated(.header)) == .duplicate)
        #expect(
            assembler.partFailed(40, .truncated(.header))
                == .failed(Self.failure(40, .malformed(.truncated(.header)), name: nil)))
        #expect(assembler.checkInvariants() == nil)
    }

    @Test("A gap is told once, by number, and ends the objects that it hits") func gaps() throws {
        var assembler = ObjectAssembler()
        _ = assembler.receive(Self.header(3), body: [1], via: .flow, at: start)
        _ = assembler.receive(Self.header(5, 0, of: 2), body: [1], via: .flow, at: start)
        _ = assembler.receive(Self.header(7, 0, of: 2), body: [1], via: .flow, at: start)
        try assembler.gapReceived(Gap(first: 0, count: 7, reason: .lifetime))
        #expect(
            assembler.takeNotices() == [
                .gap(Gap(first: 0, count: 3, reason: .lifetime)), .gap(Gap(first: 4, count: 3, reason: .lifetime)),
                .failed(Self.failure(5, .gap(.lifetime))),
            ])
        #expect(assembler.settledBelow == 7 && assembler.statistics.missing == 6 && assembler.checkInvariants() == nil)
        try assembler.gapReceived(Gap(first: 0, count: 7, reason: .lifetime))
        #expect(assembler.takeNotices().isEmpty)
        // Of an object that no part was known of.
        try assembler.gapReceived(Gap(first: 11, count: 1, reason: .void))
        #expect(
            assembler.receive(Self.header(10, 0, of: 3), body: [1], via: .flow, at: start)
                == .failed(Self.failure(10, .gap(nil))))
        #expect(assembler.receive(Self.header(10, 2, of: 3), body: [1], via: .flow, at: start) == .duplicate)
        // What is not wanted is no loss.
        _ = assembler.takeNotices()
        try assembler.gapReceived(Gap(first: 7, count: 3, reason: .unwanted))
        #expect(assembler.takeNotices().isEmpty && assembler.statistics.unwanted == 3 && assembler.settledBelow == 13)
        #expect(throws: ObjectsError.self) { try assembler.gapReceived(Gap(first: 5, count: .max, reason: .void)) }
        #expect(!assembler.isFinished)
        assembler.endReceived(13)
        #expect(assembler.isFinished)
    }

    @Test("An object that was abandoned is given up once its next number is another's") func cutOff() {
        for mode in [ObjectAssembler.Mode.whole, .parts] {
            var assembler = ObjectAssembler(mode: mode)
            _ = assembler.receive(Self.header(0, 0, of: nil), body: [1], via: .flow, at: start)
            _ = assembler.receive(Self.header(2), body: [1], via: .flow, at: start)
            #expect(assembler.takeNotices().isEmpty)
            _ = assembler.receive(Self.header(1), body: [1], via: .flow, at: start)
            #expect(assembler.takeNotices() == [.failed(Self.failure(0, .gap(nil)))])
            #expect(assembler.settledBelow == 3 && assembler.checkInvariants() == nil)
        }
    }

    @Test func aGapInAnObjectGivenOutByParts() throws {
        var assembler = ObjectAssembler(mode: .parts)
        try assembler.gapReceived(Gap(first: 1, count: 1, reason: .lifetime))
        _ = assembler.takeNotices()
        _ = assembler.receive(Self.header(0, 0, of: 3), body: [1], via: .flow, at: start)
        guard case .part(let part) = assembler.receive(Self.header(0, 2, of: 3), body: [1], via: .flow, at: start)
        else { return #expect(Bool(false)) }
        #expect(!part.completes && assembler.takeNotices() == [.failed(Self.failure(0, .gap(nil)))])
        // All its parts had come, and then the source gave it up.
        _ = assembler.receive(Self.header(3, 0, of: nil), body: [1], via: .flow, at: start)
        try assembler.gapReceived(Gap(first: 3, count: 1, reason: .void))
        #expect(assembler.takeNotices() == [.failed(Self.failure(3, .gap(.void)))])
        #expect(assembler.checkInvariants() == nil)
    }

    @Test("Held octets are bounded: the oldest object fails for a newer one") func room() {
        var assembler = ObjectAssembler(limits: ObjectAssembler.Limits(octets: 1000))
        let body = [UInt8](repeating: 1, count: 300)
        for object: UInt64 in [10, 20, 30] {
            #expect(
                assembler.receive(Self.header(object, 0, of: 2, length: 600), body: body, via: .flow, at: start)
                    == .held)
        }
        #expect(assembler.takeNotices() == [.failed(Self.failure(10, .noRoom))])
        #expect(assembler.heldOctets == 728 && assembler.resume.ranges == [10..<12])
        // One that can never fit fails alone.
        #expect(
            assembler.receive(Self.header(40, 0, of: 9, length: 1001), body: body, via: .flow, at: start)
                == .failed(Self.failure(40, .tooLarge)))
        let big = PartHeader(sequence: 50, count: nil, length: nil, published: noon, mediaType: "m", name: "n")
        #expect(
            assembler.receive(big, body: [UInt8](repeating: 1, count: 937), via: .flow, at: start)
                == .failed(Self.failure(50, .tooLarge)))
        #expect(assembler.takeNotices().isEmpty && assembler.objectsHeld == 3 && assembler.checkInvariants() == nil)
        // Empty parts count as well.
        assembler = ObjectAssembler(limits: ObjectAssembler.Limits(octets: 1000))
        for index in UInt64(0)..<15 {
            #expect(assembler.receive(Self.header(10, index, of: nil), body: [], via: .flow, at: start) == .held)
        }
        #expect(
            assembler.receive(Self.header(10, 15, of: nil), body: [], via: .flow, at: start)
                == .failed(Self.failure(10, .tooLarge)))
    }

    @Test("Objects that are not whole are bounded, those given up before and then the oldest going first") func places()
    {
        for mode in [ObjectAssembler.Mode.whole, .parts] {
            var assembler = ObjectAssembler(mode: mode, limits: ObjectAssembler.Limits(objects: 3))
            for object: UInt64 in [10, 20, 30, 40] {
                _ = assembler.receive(Self.header(object, 0, of: nil), body: [1], via: .flow, at: start)
            }
            #expect(assembler.objectsHeld == 3 && assembler.takeNotices() == [.failed(Self.failure(10, .noRoom))])
            #expect(assembler.receive(Self.header(10, 1, of: 3), body: [1], via: .flow, at: start) == .ended)
            _ = assembler.partFailed(40, .truncated(.header))
            _ = assembler.receive(Self.header(40, 1, of: nil, name: "other"), body: [1], via: .flow, at: start)
            let notices = assembler.takeNotices().count
            _ = assembler.receive(Self.header(50, 0, of: nil), body: [1], via: .flow, at: start)
            #expect(assembler.objectsHeld == 3 && notices == 0, "\(mode)")
            #expect(assembler.checkInvariants() == nil)
        }
    }

    @Test("Holes are bounded: the oldest is given up and told") func holes() {
        var assembler = ObjectAssembler(limits: ObjectAssembler.Limits(ranges: 3))
        _ = assembler.receive(Self.header(1, 0, of: 2), body: [1], via: .flow, at: start)
        for sequence: UInt64 in [4, 6, 8, 10] {
            #expect(Self.object(assembler.receive(Self.header(sequence), body: [1], via: .flow, at: start)) != nil)
        }
        #expect(assembler.settledBelow == 5 && assembler.statistics.holesGivenUp == 1)
        #expect(
            assembler.takeNotices() == [
                .gap(Gap(first: 0, count: 4, reason: .tooManyHoles)), .failed(Self.failure(1, .gap(.tooManyHoles))),
            ])
        #expect(assembler.checkInvariants() == nil)
        // As many as are remembered without being told otherwise.
        assembler = ObjectAssembler()
        for index in 0...UInt64(ObjectLimits.rememberedRanges) {
            #expect(assembler.statistics.holesGivenUp == 0)
            _ = assembler.receive(Self.header(2 * index + 1), body: [1], via: .flow, at: start)
        }
        #expect(assembler.takeNotices() == [.gap(Gap(first: 0, count: 1, reason: .tooManyHoles))])
        #expect(assembler.statistics.holesGivenUp == 1 && assembler.settledBelow == 2)
    }

    @Test func epochs() throws {
        func log(_ answer: LogMessage.Answer, _ first: UInt64, _ epoch: Epoch) -> LogMessage {
            LogMessage(epoch: epoch, now: noon, oldest: 0, next: 100, answer: answer, first: first)
        }
        let other = Epoch(high: 9, low: 9)
        var assembler = ObjectAssembler()
        #expect(assembler.position() == PositionMessage(epoch: nil, cursor: Cursor()))
        #expect(try assembler.logReceived(log(.fresh, 20, epoch), roundTrip: .zero, at: start) == .started(first: 20))
        #expect(assembler.epoch == epoch && assembler.settledBelow == 20)
        // It began in the middle of an object.
        #expect(assembler.receive(Self.header(18, 3, of: 5), body: [1], via: .flow, at: start) == .ended)
        _ = assembler.receive(Self.header(30, 0, of: 2), body: [1], via: .flow, at: start)
        #expect(try assembler.logReceived(log(.taken, 20, epoch), roundTrip: .zero, at: start) == .resumed)
        #expect(throws: ObjectsError.epochMismatch) {
            try assembler.logReceived(log(.taken, 20, other), roundTrip: .zero, at: start)
        }
        #expect(assembler.objectsHeld == 1)
        #expect(
            try assembler.logReceived(log(.otherEpoch, 5, other), roundTrip: .zero, at: start) == .started(first: 5))
        #expect(assembler.takeNotices() == [.failed(Self.failure(30, .epochEnded))])
        #expect(assembler.resume == Cursor(position: 5) && assembler.heldOctets == 0 && assembler.epoch == other)
        #expect(assembler.checkInvariants() == nil)
    }
}
