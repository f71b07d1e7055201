import Objects
import QUIC
import Wire

@testable import Flexicast

/// A walk over everything that moves parts between the flow and a receiver's cursor, beside a model of sets: each part that
/// a receiver is due is told as a gap, was handed to it, waits in its cursor, or comes by the flow.
struct SwitchWalk {
    enum Operation: Equatable, CustomStringConvertible {
        case publish(Int)
        /// An object that is worth nothing after so many milliseconds.
        case publishUntil(Int, Int)
        case position(Int, Int)
        case join(Int)
        case ready(Int)
        case leave(Int)
        case transmit
        /// So many of the next packets do not reach the receiver.
        case lose(Int, Int)
        case acknowledge(Int)
        case block(Int)
        case unblock(Int)
        case wait(Int)
        case evict(Int)
        case reconnect(Int)
        case datagram(Int)

        /// As a test writes it down.
        var description: String {
            switch self {
            case .publish(let octets): ".publish(\(octets))"
            case .publishUntil(let octets, let milliseconds): ".publishUntil(\(octets), \(milliseconds))"
            case .position(let receiver, let kind): ".position(\(receiver), \(kind))"
            case .join(let receiver): ".join(\(receiver))"
            case .ready(let receiver): ".ready(\(receiver))"
            case .leave(let receiver): ".leave(\(receiver))"
            case .transmit: ".transmit"
            case .lose(let receiver, let count): ".lose(\(receiver), \(count))"
            case .acknowledge(let receiver): ".acknowledge(\(receiver))"
            case .block(let receiver): ".block(\(receiver))"
            case .unblock(let receiver): ".unblock(\(receiver))"
            case .wait(let milliseconds): ".wait(\(milliseconds))"
            case .evict(let receiver): ".evict(\(receiver))"
            case .reconnect(let receiver): ".reconnect(\(receiver))"
            case .datagram(let octets): ".datagram(\(octets))"
            }
        }
    }

    /// What a receiver is due and what has become of it.
    struct Shadow {
        var connectedAt: UInt64
        var servedFrom: UInt64?
        var due = Set<UInt64>()
        /// By the flow, in the membership at hand.
        var carried = Set<UInt64>()
        var gaps = Set<UInt64>()
        var pieces: [UInt64: Ranges] = [:]
        var handed: [UInt64: Int] = [:]
        /// All of it came by the flow, and was acknowledged.
        var settled = Set<UInt64>()
        /// Something of it was lost.
        var lost = Set<UInt64>()
        var heard = Ranges()
        var loses = 0
        var wasMember = false
        var hasJoined = false
        var decoder = ControlDecoder(from: .source)
        var toldRead = 0
        /// Datagrams that are to come on its connection.
        var datagramsDue = Set<UInt64>()

        init(connectedAt: UInt64) { self.connectedAt = connectedAt }
    }

    static let receivers = 3
    private let bench: SourceBench
    private var shadows: [Shadow] = []
    private var lengths: [UInt64] = []
    private var datagramsSent: UInt64 = 0
    /// Of them, those that there were members for, and those that the flow has brought.
    private var datagramsForFlow: UInt64 = 0
    private var datagramsOnFlow = Set<UInt64>()
    private var misplaced: String?
    /// Parts that end some time.
    private var mortal = Set<UInt64>()

    init() {
        bench = SourceBench(retention: Retention(objects: 8)) {
            $0.history = 1 << 20
            $0.sendsDatagrams = true
        }
        for _ in 0..<Self.receivers {
            _ = bench.connect()
            shadows.append(Shadow(connectedAt: 0))
        }
    }

    /// Does all of them, and then what lets everything arrive. What does not hold, in words.
    static func run(_ operations: [Operation]) -> String? {
        var walk = SwitchWalk()
        for (place, operation) in operations.enumerated() {
            walk.apply(operation)
            if let problem = walk.check() { return "after \(place), \(operation): \(problem)" }
        }
        return walk.finish().map { "at the end: \($0)" }
    }

    static func random(_ count: Int, seed: UInt64) -> [Operation] {
        var dice = SeededRandom(seed: seed)
        var out: [Operation] = []
        while out.count < count {
            let receiver = Int.random(in: 0..<receivers, using: &dice)
            switch Int.random(in: 0..<39, using: &dice) {
            case 0..<5: out.append(.publish(Int.random(in: 0...3000, using: &dice)))
            case 5..<7: out.append(.publish(SourceBench.longOctets))
            case 7: out.append(.publish(2 * ObjectLimits.partOctets + 1))
            case 8..<11: out.append(.position(receiver, Int.random(in: 0..<6, using: &dice)))
            case 11..<14: out.append(.join(receiver))
            case 14..<17: out.append(.ready(receiver))
            case 17..<19: out.append(.leave(receiver))
            case 19..<22: out.append(.transmit)
            case 22..<24: out.append(.lose(receiver, Int.random(in: 1...4, using: &dice)))
            case 24..<27: out.append(.acknowledge(receiver))
            case 27: out.append(.block(receiver))
            case 28: out.append(.unblock(receiver))
            case 29: out.append(.wait([5, 100, 1100].randomElement(using: &dice)!))
            case 30: out.append(.evict(receiver))
            case 31: out.append(.reconnect(receiver))
            case 32..<36:
                out.append(
                    .publishUntil(
                        [100, 3000, 9000, SourceBench.longOctets].randomElement(using: &dice)!,
                        [0, 3, 30, 150, 2000].randomElement(using: &dice)!))
            default: out.append(.datagram(Int.random(in: 0...1100, using: &dice)))
            }
        }
        return out
    }

    /// The shortest list found by leaving operations out that still fails in the same way.
    static func shrunk(_ operations: [Operation]) -> [Operation] {
        var list = operations
        let wanted = run(operations).map(kind(of:))
        var size = max(1, list.count / 2)
        while true {
            var place = 0
            var isShorter = false
            while place < list.count {
                var fewer = list
                fewer.removeSubrange(place..<min(place + size, list.count))
                if let problem = run(fewer), kind(of: problem) == wanted {
                    list = fewer
                    isShorter = true
                } else {
                    place += size
                }
            }
            if size == 1, !isShorter { return list }
            size = max(1, size / 2)
        }
    }

    /// A problem without where it happened.
    private static func kind(of problem: String) -> String {
        let end = problem.lastIndex(of: ":").map { problem.index(after: $0) } ?? problem.startIndex
        return String(problem[end...].filter { !$0.isNumber })
    }

    private mutating func apply(_ operation: Operation) {
        let edge = bench.server.log.next
        switch operation {
        case .publish(let octets), .publishUntil(let octets, _):
            let members = shadows.indices.filter { isMember($0) }
            var end: Instant?
            if case .publishUntil(_, let milliseconds) = operation {
                end = bench.now + .milliseconds(Int64(milliseconds))
            }
            bench.publish(octets, until: end)
            for part in edge..<bench.server.log.next {
                guard case .part(let found) = bench.server.log.part(at: part) else { fatalError("no part \(part)") }
                lengths.append(UInt64(found.stream.count))
                if end != nil { mortal.insert(part) }
                if found.stream.count <= 10_000 {
                    for index in members { shadows[index].carried.insert(part) }
                }
                for index in shadows.indices where shadows[index].servedFrom != nil { shadows[index].due.insert(part) }
            }
        case .position(let index, let kind): state(index, kind)
        case .join(let index):
            shadows[index].heard = Ranges()
            bench.send(.join, bench.receivers[index])
            shadows[index].hasJoined = true
        case .ready(let index): bench.send(.ready, bench.receivers[index])
        case .leave(let index): bench.send(.leave, bench.receivers[index])
        case .transmit: transmit()
        case .lose(let index, let count): shadows[index].loses = count
        case .acknowledge(let index): acknowledge(index)
        case .block(let index): bench.receivers[index].link.roomOctets = 0
        case .unblock(let index): bench.receivers[index].link.roomOctets = 1 << 30
        case .wait(let milliseconds):
            bench.now += .milliseconds(Int64(milliseconds))
            bench.server.timerFired(at: bench.now)
            // What a member is silent about for too long is taken for lost, and waits in its cursor.
            for index in shadows.indices where isMember(index) {
                let cursor = bench.seat(bench.receivers[index]).cursor
                for part in shadows[index].carried where cursor.contains(part) { shadows[index].lost.insert(part) }
            }
        case .evict(let index):
            guard let member = bench.seat(bench.receivers[index]).member else { break }
            bench.server.withFlow { $0.evict(member, reason: .tooSlow, at: bench.now) }
            bench.server.settle(at: bench.now)
        case .reconnect(let index):
            let old = bench.receivers[index]
            bench.handle(.closed(.idleTimeout), old)
            bench.server.forget(old.id, at: bench.now)
            let new = bench.connect()
            bench.receivers.removeLast()
            bench.receivers[index] = new
            shadows[index] = Shadow(connectedAt: edge)
        case .datagram(let octets):
            let members = shadows.indices.filter { isMember($0) }
            try! bench.server.sendDatagram([UInt8](repeating: 9, count: octets), at: bench.now)
            if !members.isEmpty { datagramsForFlow += 1 }
            for index in shadows.indices where !members.contains(index) {
                shadows[index].datagramsDue.insert(datagramsSent)
            }
            datagramsSent += 1
        }
        for index in shadows.indices { observe(index) }
    }

    private func isMember(_ index: Int) -> Bool { bench.server.isMember(bench.receivers[index].id) }

    /// POSITION of the kinds that there are: for all, from the middle, for what is new, with gaps, of another epoch, at the edge.
    private mutating func state(_ index: Int, _ kind: Int) {
        let edge = bench.server.log.next
        // A newcomer is told nothing of what ended before there was anything that is kept.
        let oldest = bench.server.log.first(ofNewest: 1 << 20)
        let receiver = bench.receivers[index]
        var cursor = Cursor()
        var epoch: Epoch?
        switch kind {
        case 0: break
        case 1: cursor = Cursor(position: edge / 2)
        case 2: cursor = Cursor(position: PositionMessage.newest)
        case 3:
            epoch = SourceBench.epoch
            cursor = Cursor(position: edge / 3)
            for part in stride(from: edge / 3 + 1, to: edge, by: 2) { cursor.settle(part) }
        case 4:
            epoch = Epoch(high: 1, low: 2)
            cursor = Cursor(position: 4)
        default:
            epoch = SourceBench.epoch
            cursor = Cursor(position: edge)
        }
        let isFirst: Bool
        switch bench.seat(receiver).position {
        case .stated: isFirst = false
        case .awaited, .unstated: isFirst = true
        }
        // One that goes back would end the connection.
        guard isFirst else { return }
        bench.state(PositionMessage(epoch: epoch, cursor: cursor), receiver)
        let end = shadows[index].servedFrom ?? edge
        let first = epoch == SourceBench.epoch ? 0 : min(max(epoch == nil ? cursor.position : 0, oldest), edge)
        if first < end {
            for part in first..<end where epoch != SourceBench.epoch || !cursor.contains(part) {
                shadows[index].due.insert(part)
            }
        }
        shadows[index].servedFrom = end
    }

    private mutating func transmit() {
        for (number, packet) in bench.transmit() {
            for datagram in SourceBench.datagrams(of: packet) {
                if !datagramsOnFlow.insert(Self.number(of: datagram)).inserted {
                    misplaced = "a datagram came on the flow twice"
                }
            }
            for index in shadows.indices {
                let seat = bench.seat(bench.receivers[index])
                guard seat.hasJoined(World.flowID) else { continue }
                let isLost = shadows[index].loses > 0
                if isLost { shadows[index].loses -= 1 } else { shadows[index].heard.insert(number..<(number + 1)) }
                for piece in SourceBench.pieces(of: packet) {
                    if isLost {
                        shadows[index].lost.insert(piece.part)
                    } else {
                        shadows[index].pieces[piece.part, default: Ranges()].insert(piece.range)
                    }
                }
            }
        }
    }

    private static func number(of datagram: [UInt8]) -> UInt64 {
        var reader = ByteReader(datagram.span)
        return reader.varint()!
    }

    private mutating func acknowledge(_ index: Int) {
        let receiver = bench.receivers[index]
        let ranges = shadows[index].heard.list.suffix(32).reversed().map { $0.lowerBound...($0.upperBound - 1) }
        guard !ranges.isEmpty, bench.seat(receiver).hasJoined(World.flowID) else {
            bench.serve(receiver)
            return
        }
        if isMember(index) {
            // What it was silent about for too long is repaired already.
            let seat = bench.seat(receiver)
            let repaired = Set(seat.repairs.map(\.stream.index))
            for part in shadows[index].carried
            where isWhole(part, index) && shadows[index].handed[part] == nil && !seat.cursor.contains(part)
                && !repaired.contains(part)
            {
                shadows[index].settled.insert(part)
            }
        }
        bench.acknowledge(Array(ranges), receiver)
    }

    private func isWhole(_ part: UInt64, _ index: Int) -> Bool {
        shadows[index].pieces[part]?.covers(upTo: lengths[Int(part)]) ?? false
    }

    /// Takes what the receiver was handed and told, and notes which part of the model that moves.
    private mutating func observe(_ index: Int) {
        let receiver = bench.receivers[index]
        let edge = bench.server.log.next
        // What it is told first is written when it is served again.
        if !bench.seat(receiver).messages.isEmpty { bench.serve(receiver) }
        let seat = bench.seat(receiver)
        if case .unstated = seat.position {
            let end = shadows[index].servedFrom ?? edge
            if shadows[index].connectedAt < end {
                shadows[index].due.formUnion(shadows[index].connectedAt..<end)
                shadows[index].servedFrom = shadows[index].connectedAt
            }
        }
        if seat.member != nil, shadows[index].servedFrom == nil { shadows[index].servedFrom = edge }
        if seat.member == nil {
            shadows[index].carried = []
        }
        for part in receiver.link.takeParts() {
            let number = part.stream.index
            shadows[index].pieces[number, default: Ranges()].insert(part.range)
            if part.fin, part.range.lowerBound == 0 { shadows[index].handed[number, default: 0] += 1 }
        }
        for datagram in receiver.link.takeDatagrams() {
            if shadows[index].datagramsDue.remove(Self.number(of: datagram)) == nil {
                misplaced = "receiver \(index) was handed a datagram that came by the flow, or that it had"
            }
        }
        let told = Array(receiver.link.told[shadows[index].toldRead...])
        shadows[index].toldRead = receiver.link.told.count
        var reader = ByteReader(told.span)
        while let message = try! shadows[index].decoder.next(from: &reader) {
            if case .gap(let gap) = message { shadows[index].gaps.formUnion(gap.range) }
        }
    }

    private func check() -> String? {
        if let problem = misplaced ?? bench.server.checkInvariants() { return problem }
        for index in shadows.indices {
            if let problem = check(index) { return "receiver \(index): \(problem)" }
        }
        return nil
    }

    private func check(_ index: Int) -> String? {
        let shadow = shadows[index]
        let receiver = bench.receivers[index]
        let seat = bench.seat(receiver)
        if let error = receiver.link.error { return "closed: \(error)" }
        for part in shadow.due.sorted() {
            let waits = seat.cursor.contains(part)
            let isGap = shadow.gaps.contains(part)
            // It learns of it if it ever states its position.
            let isUntold = seat.cursor.untold.contains(part)
            if isUntold, isGap || waits { return "part \(part) is untold as a gap, and waits or was told" }
            let isCarried = seat.member != nil && shadow.carried.contains(part)
            if isGap, waits { return "part \(part) was told as a gap and waits" }
            if isGap, isCarried, !shadow.lost.contains(part), !mortal.contains(part) {
                return "part \(part) was told as a gap and is on the flow"
            }
            if waits, shadow.handed[part] != nil { return "part \(part) was handed over and waits" }
            if waits, shadow.settled.contains(part) { return "part \(part) came by the flow and waits" }
            if isGap || isUntold || waits || isCarried { continue }
            var pieces = shadow.pieces[part] ?? Ranges()
            for repair in seat.repairs where repair.stream.index == part { pieces.insert(repair.range) }
            guard pieces.covers(upTo: lengths[Int(part)]) else { return "part \(part) comes no way" }
        }
        for (part, times) in shadow.handed {
            if times > 1 { return "part \(part) was handed over \(times) times" }
            if shadow.settled.contains(part) { return "part \(part) came by the flow and was handed over" }
            if !shadow.hasJoined, !shadow.due.contains(part) { return "part \(part) was handed over and is not due" }
        }
        return nil
    }

    /// Lets everything arrive.
    private mutating func finish() -> String? {
        for index in shadows.indices {
            shadows[index].loses = 0
            apply(.unblock(index))
        }
        for _ in 0..<40 {
            apply(.wait(50))
            apply(.transmit)
            for index in shadows.indices { apply(.acknowledge(index)) }
            if let problem = check() { return problem }
        }
        for index in shadows.indices {
            let shadow = shadows[index]
            let untold = bench.seat(bench.receivers[index]).cursor.untold
            for part in shadow.due
            where !shadow.gaps.contains(part) && !untold.contains(part) && !isWhole(part, index) {
                return "receiver \(index): part \(part) has not come"
            }
            if !shadow.datagramsDue.isEmpty {
                return "receiver \(index): \(shadow.datagramsDue.count) datagrams have not come"
            }
        }
        let flow = bench.server.flow!.statistics
        guard flow.datagramsSent == datagramsOnFlow.count,
            flow.datagramsSent + flow.datagramsDropped == datagramsForFlow
        else {
            return "of \(datagramsForFlow) datagrams for the flow it has sent \(flow.datagramsSent)"
        }
        return nil
    }
}
