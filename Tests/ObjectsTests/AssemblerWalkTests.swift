import Testing
import Wire

@testable import Objects

/// What an application got, checked as it comes: nothing twice, nothing that was told as lost.
struct Application {
    var objects: [UInt64: [UInt8]] = [:]
    var parts: [UInt64: [UInt8]] = [:]
    var completed: Set<UInt64> = []
    var failed: Set<UInt64> = []
    var missing: Set<UInt64> = []
    var problems: [String] = []

    mutating func take(_ answer: PartAnswer) {
        switch answer {
        case .object(let object):
            if objects.updateValue(Array(object.body), forKey: object.first) != nil {
                problems.append("\(object.first) came twice")
            }
            if failed.contains(object.first) { problems.append("\(object.first) came and failed") }
        case .part(let part):
            let sequence = part.header.sequence
            if parts.updateValue(Array(part.body), forKey: sequence) != nil {
                problems.append("part \(sequence) came twice")
            }
            if part.completes, !completed.insert(part.header.object).inserted {
                problems.append("\(part.header.object) was completed twice")
            }
        case .failed(let failure): take(failure)
        case .held, .duplicate, .ended: break
        }
    }

    mutating func take(_ notices: [AssemblyNotice]) {
        for notice in notices {
            switch notice {
            case .failed(let failure): take(failure)
            case .gap(let gap):
                // Very long ones come of lies; their first numbers do.
                for number in gap.range.prefix(5000) where !missing.insert(number).inserted {
                    problems.append("\(number) was told twice")
                }
            }
        }
    }

    private mutating func take(_ failure: AssemblyFailure) {
        if objects[failure.object] != nil { problems.append("\(failure.object) failed and had come") }
        if !failed.insert(failure.object).inserted { problems.append("\(failure.object) failed twice") }
    }
}

@Suite struct AssemblerWalkTests {
    /// Publishes objects of one and of several parts, whole and part by part, some given up.
    static func publish(_ random: inout SeededRandom) throws -> (log: ObjectLog, void: Set<UInt64>) {
        var log = try ObjectLog(MemoryStore(epoch: epoch))
        var void: Set<UInt64> = []
        while log.next < 300 {
            if random.chance(0.5) {
                try log.append(name: "one", body: random.octets(random.below(9)), published: noon)
                continue
            }
            try log.begin(name: "several", length: nil, published: noon)
            for _ in 0..<random.below(7) { try log.append(part: random.octets(random.below(9))) }
            if random.chance(0.1) {
                if let gap = log.abandon() { void.formUnion(gap.range) }
            } else {
                try log.finish(random.octets(random.below(9)))
            }
        }
        return (log, void)
    }

    @Test(
        "Lost, late, twice, out of order, cut off and started again: each object is given out once, or told as lost",
        arguments: [14_578_835_989_749_499_052] + seeds)
    func walk(seed: UInt64) throws {
        for mode in [ObjectAssembler.Mode.whole, .parts] {
            var random = SeededRandom(seed: seed)
            let (log, void) = try Self.publish(&random)
            let tight = random.chance(0.3)
            let limits = ObjectAssembler.Limits(octets: tight ? 500 : 1 << 20, objects: tight ? 4 : 100)
            var assembler = ObjectAssembler(mode: mode, limits: limits)
            var application = Application()
            var wasRestarted = false
            // Of an object whose length is not known yet, a part whose lifetime ended ends it, also where the part has come.
            var expired: Set<UInt64> = []
            _ = try assembler.logReceived(
                LogMessage(epoch: epoch, now: noon, oldest: 0, next: 0, answer: .fresh, first: 0), roundTrip: .zero,
                at: start)
            func give(_ part: Part, _ way: PartWay) {
                application.take(
                    assembler.receive(part.header, body: Array(part.body), stream: part.sequence, via: way, at: start))
            }
            func check(_ what: String) {
                application.take(assembler.takeNotices())
                if let problem = assembler.checkInvariants() { application.problems.append(problem) }
                #expect(application.problems == [], "seed \(seed), \(mode), \(what)")
            }

            // By the flow, out of order, with losses, some parts twice.
            var order = (0..<log.next).map { ($0 + UInt64(random.below(12)), $0) }.sorted { $0 < $1 }.map(\.1)
            order.removeAll { _ in random.chance(0.15) }
            for sequence in order {
                guard case .part(let part) = log.part(at: sequence) else { continue }
                give(part, .flow)
                if random.chance(0.1) { give(part, .connection) }
                check("part \(sequence)")
                if random.chance(0.01) {
                    // Cut off; or started again, and then what was held is lost.
                    let message = assembler.position()
                    #expect(
                        decode([try ControlMessage.position(message).encoded()], from: .client).items == [
                            .position(message)
                        ])
                    if random.chance(0.5) {
                        wasRestarted = true
                        assembler = ObjectAssembler(resuming: epoch, at: assembler.resume, mode: mode, limits: limits)
                    }
                }
                if random.chance(0.01) {
                    let first = UInt64(random.below(Int(log.next)))
                    let gap = Gap(first: first, count: 1, reason: .lifetime)
                    expired.insert(first)
                    try assembler.gapReceived(gap)
                    check("gap \(gap)")
                }
            }
            // The rest on the connection, as a source serves it.
            var cursor = assembler.statement
            serving: while true {
                switch log.read(cursor) {
                case .edge, .stored: break serving
                case .gap(let gap):
                    cursor.settle(gap.range)
                    try assembler.gapReceived(gap)
                case .part(let part):
                    cursor.settle(part.sequence)
                    give(part, .connection)
                }
                check("serving")
            }
            assembler.endReceived(log.next)
            #expect(assembler.isFinished, "seed \(seed), \(mode): \(assembler.resume)")

            // Each object is whole as it was published, or failed, or told as lost.
            var sequence: UInt64 = 0
            while sequence < log.next {
                guard case .part(let first) = log.part(at: sequence) else {
                    #expect(void.contains(sequence), "seed \(seed)")
                    sequence += 1
                    continue
                }
                var bodies: [[UInt8]] = []
                while case .part(let part) = log.part(at: sequence), part.header.object == first.sequence {
                    bodies.append(Array(part.body))
                    sequence += 1
                }
                let run = first.sequence..<sequence
                let isLost =
                    application.failed.contains(first.sequence) || run.contains(where: application.missing.contains)
                let parts = run.map { application.parts[$0] } == bodies
                let isHere =
                    application.objects[first.sequence] == bodies.flatMap { $0 }
                    || application.completed.contains(first.sequence) && parts
                // After a restart an application that takes parts sees for itself when it has all.
                let isSeen = isHere || wasRestarted && mode == .parts && parts && !isLost
                #expect(isSeen != isLost, "seed \(seed), \(mode), object \(run)")
                if !tight, !run.contains(where: { application.missing.contains($0) || expired.contains($0) }) {
                    #expect(isSeen, "seed \(seed), \(mode), object \(run)")
                }
            }
        }
    }

    @Test("Parts that say anything at all: no trap, all bounds hold, nothing twice", arguments: seeds)
    func lies(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        for mode in [ObjectAssembler.Mode.whole, .parts] {
            var assembler = ObjectAssembler(
                mode: mode, limits: ObjectAssembler.Limits(octets: 600, objects: 4, ranges: 6))
            var application = Application()
            for step in 0..<1500 {
                let far = random.chance(0.02)
                let index = UInt64(random.below(4))
                let header = PartHeader(
                    sequence: far
                        ? random.next() >> UInt64(random.below(64))
                        : assembler.settledBelow &+ UInt64(random.below(40)),
                    index: far ? random.next() >> UInt64(random.below(64)) : index,
                    count: random.chance(0.4)
                        ? nil : random.chance(0.01) ? random.next() : index + UInt64(random.below(3)),
                    length: random.chance(0.7) ? nil : random.chance(0.1) ? random.next() : UInt64(random.below(30)),
                    published: noon, mediaType: "m", name: random.chance(0.98) ? "n" : "o")
                let body = random.octets(random.below(20))
                switch random.below(20) {
                case 0:
                    try? assembler.gapReceived(
                        Gap(
                            first: header.sequence, count: far ? random.next() : UInt64(random.below(4)),
                            reason: Gap.Reason(rawValue: UInt64(random.below(5)))))
                case 1: application.take(assembler.partFailed(header.sequence, .truncated(.header)))
                default:
                    let stream = random.chance(0.05) ? random.next() >> UInt64(random.below(64)) : nil
                    application.take(
                        assembler.receive(header, body: body, stream: stream, via: .connection, at: start))
                }
                _ = assembler.takeNotices()
                #expect(assembler.checkInvariants() == nil, "seed \(seed), \(mode), step \(step)")
                #expect(assembler.resume.checkInvariants() == nil, "seed \(seed), \(mode), step \(step)")
                // A lie may have settled all there is.
                if assembler.settledBelow > 1 << 59 {
                    assembler = ObjectAssembler(mode: mode, limits: assembler.limits)
                }
                let twice = application.problems.filter { $0.hasSuffix("came twice") }
                if assembler.settledBelow == 0 { application = Application() }
                #expect(twice == [], "seed \(seed), \(mode), step \(step)")
            }
        }
    }
}
