import Testing
import Wire

@testable import AMT

/// Writes responses as a name server does.
struct ResponseBuilder {
    var id: UInt16
    var question: DNSQuestion
    var flags: UInt16 = 0x8180
    var records: [(owner: DomainName, type: UInt16, data: [UInt8])] = []
    var recordClass: UInt16 = 1

    init(to query: [UInt8], _ question: DNSQuestion) {
        id = UInt16(query[0]) << 8 | UInt16(query[1])
        self.question = question
    }

    func with(_ owner: String, _ type: DNSType, _ data: [UInt8]) -> ResponseBuilder {
        var copy = self
        copy.records.append((name(owner), type.rawValue, data))
        return copy
    }

    func with(_ owner: String, _ type: DNSType, to target: String) -> ResponseBuilder {
        with(owner, type, Self.wire(name(target)))
    }

    static func wire(_ name: DomainName) -> [UInt8] { [UInt8].written(capacity: 255) { name.write(to: &$0) } }

    var bytes: [UInt8] {
        [UInt8].written(capacity: 8192) { writer in
            for field in [id, flags, 1, UInt16(records.count), 0, 0] { writer.uint16(field) }
            question.name.write(to: &writer)
            writer.uint16(question.type.rawValue)
            writer.uint16(1)
            for record in records {
                // The owner as most servers write it: a pointer to the question, where it is the same name.
                if record.owner == question.name {
                    writer.uint16(0xc00c)
                } else {
                    record.owner.write(to: &writer)
                }
                writer.uint16(record.type)
                writer.uint16(recordClass)
                writer.uint32(60)
                writer.uint16(UInt16(record.data.count))
                writer.octets(record.data.span)
            }
        }
    }
}

private func next(_ lookup: inout NameLookup) throws -> (bytes: [UInt8], to: SocketAddress) {
    let datagram = lookup.nextDatagram()
    return try #require(datagram)
}

@Suite("Questions to name servers")
struct DiscoveryLookupTests {
    static let server = address("192.0.2.53:53")
    static let other = address("192.0.2.54:53")
    static let question = DNSQuestion(name("5.2.0.192.in-addr.arpa"), .amtRelay)
    static let relay: [UInt8] = [10, 1, 203, 0, 113, 15]
    static let answer = LookupOutcome.records([
        .amtRelay(AMTRelayRecord(precedence: 10, relay: .address(ip("203.0.113.15"))))
    ])

    static func lookup() -> NameLookup {
        NameLookup(question, servers: [server, other], random: SeededRandom(seed: 1))
    }

    @Test("A query asks for recursion, in the Internet's class, with room for long answers")
    func query() throws {
        var lookup = Self.lookup()
        lookup.start(at: seconds(0))
        let (bytes, to) = try next(&lookup)
        #expect(to == Self.server)
        #expect(
            Array(bytes.dropFirst(2))
                == hex(
                    "0100 0001 0000 0000 0001 01350132013003313932 07696e2d61646472 0461727061 00 0104 0001"
                        + "00 0029 04d0 00000000 0000"))
    }

    @Test("Only the answer to our question, from a server that was asked, counts")
    func forged() throws {
        var lookup = Self.lookup()
        lookup.start(at: seconds(0))
        let query = try next(&lookup).bytes
        let right = ResponseBuilder(to: query, Self.question).with("5.2.0.192.in-addr.arpa", .amtRelay, Self.relay)

        var wrongID = right
        wrongID.id &+= 1
        var wrongName = right
        wrongName.question.name = name("6.2.0.192.in-addr.arpa")
        var wrongType = right
        wrongType.question.type = .a
        var noResponse = right
        noResponse.flags = 0x0100
        var otherOperation = right
        otherOperation.flags |= 0x2800
        for wrong in [wrongID, wrongName, wrongType, noResponse, otherOperation] {
            lookup.datagramReceived(wrong.bytes.span, from: Self.server, at: seconds(0))
            #expect(lookup.outcome == nil)
        }
        // Not asked yet, and another port.
        lookup.datagramReceived(right.bytes.span, from: Self.other, at: seconds(0))
        lookup.datagramReceived(right.bytes.span, from: address("192.0.2.53:5353"), at: seconds(0))
        #expect(lookup.outcome == nil)
        lookup.datagramReceived(right.bytes.span, from: Self.server, at: seconds(0))
        #expect(lookup.outcome == Self.answer)
    }

    @Test("Records of other names, classes and types say nothing")
    func strangeRecords() throws {
        var lookup = Self.lookup()
        lookup.start(at: seconds(0))
        let query = try next(&lookup).bytes
        var response = ResponseBuilder(to: query, Self.question)
            .with("6.2.0.192.in-addr.arpa", .amtRelay, Self.relay).with("5.2.0.192.in-addr.arpa", .a, [1, 2, 3, 4])
        lookup.datagramReceived(response.bytes.span, from: Self.server, at: seconds(0))
        #expect(lookup.outcome == .records([]))

        var again = NameLookup(Self.question, servers: [Self.server], random: SeededRandom(seed: 2))
        again.start(at: seconds(0))
        response = ResponseBuilder(to: try next(&again).bytes, Self.question)
            .with("5.2.0.192.in-addr.arpa", .amtRelay, Self.relay)
        response.recordClass = 3
        again.datagramReceived(response.bytes.span, from: Self.server, at: seconds(0))
        #expect(again.outcome == .records([]))
    }

    @Test("Aliases are followed within an answer, by CNAME and by DNAME")
    func aliases() throws {
        var lookup = Self.lookup()
        lookup.start(at: seconds(0))
        let query = try next(&lookup).bytes
        let response = ResponseBuilder(to: query, Self.question)
            .with("driad.example", .amtRelay, Self.relay)
            .with("2.0.192.in-addr.arpa", .dname, to: "there.example")
            .with("5.there.example", .cname, to: "driad.example")
        lookup.datagramReceived(response.bytes.span, from: Self.server, at: seconds(0))
        #expect(lookup.outcome == Self.answer)
    }

    @Test("An alias that the server does not follow is asked for")
    func aliasElsewhere() throws {
        var lookup = Self.lookup()
        lookup.start(at: seconds(0))
        let query = try next(&lookup).bytes
        let alias = ResponseBuilder(to: query, Self.question)
            .with("5.2.0.192.in-addr.arpa", .cname, to: "driad.example")
        lookup.datagramReceived(alias.bytes.span, from: Self.server, at: seconds(0))
        #expect(lookup.outcome == nil)
        let next = try next(&lookup)
        let question = DNSQuestion(name("driad.example"), .amtRelay)
        let answer = ResponseBuilder(to: next.bytes, question).with("driad.example", .amtRelay, Self.relay)
        lookup.datagramReceived(answer.bytes.span, from: next.to, at: seconds(0))
        #expect(lookup.outcome == Self.answer)
    }

    @Test("Aliases in a circle end")
    func circle() throws {
        var lookup = Self.lookup()
        lookup.start(at: seconds(0))
        let query = try next(&lookup).bytes
        let response = ResponseBuilder(to: query, Self.question)
            .with("5.2.0.192.in-addr.arpa", .cname, to: "a.example")
            .with("a.example", .cname, to: "5.2.0.192.in-addr.arpa")
        lookup.datagramReceived(response.bytes.span, from: Self.server, at: seconds(0))
        #expect(lookup.outcome == .failed("too many aliases"))
    }

    @Test("Servers are asked in turn, then given up")
    func silence() throws {
        var lookup = Self.lookup()
        lookup.start(at: seconds(0))
        var asked: [SocketAddress] = []
        var now = seconds(0)
        while lookup.outcome == nil {
            while let (_, to) = lookup.nextDatagram() { asked.append(to) }
            now = lookup.nextDeadline
            lookup.timerFired(at: now)
        }
        #expect(asked == [Self.server, Self.other, Self.server, Self.other])
        #expect(now == seconds(8))
        #expect(lookup.outcome == .failed("no name server answers"))
    }

    @Test("A server that fails is followed by the next at once; one that knows no EDNS is asked without")
    func failures() throws {
        var lookup = Self.lookup()
        lookup.start(at: seconds(0))
        var response = ResponseBuilder(to: try next(&lookup).bytes, Self.question)
        response.flags = 0x8182
        lookup.datagramReceived(response.bytes.span, from: Self.server, at: seconds(0))
        let second = try next(&lookup)
        #expect(second.to == Self.other)
        response = ResponseBuilder(to: second.bytes, Self.question)
        response.flags = 0x8181
        lookup.datagramReceived(response.bytes.span, from: Self.other, at: seconds(0))
        let third = try next(&lookup)
        #expect(third.to == Self.other && third.bytes.count == second.bytes.count - 11)
        response = ResponseBuilder(to: third.bytes, Self.question)
        response.flags = 0x8183
        lookup.datagramReceived(response.bytes.span, from: Self.other, at: seconds(0))
        #expect(lookup.outcome == .records([]))
    }

    @Test("A truncated answer is asked for again over TCP, which believes no more than a datagram")
    func truncated() throws {
        var alone = NameLookup(Self.question, servers: [Self.server], attempts: 1, random: SeededRandom(seed: 1))
        alone.start(at: seconds(0))
        var response = ResponseBuilder(to: try next(&alone).bytes, Self.question)
            .with("5.2.0.192.in-addr.arpa", .amtRelay, Self.relay)
        response.flags |= 0x0200
        let cut = Array(response.bytes.dropLast(3))
        alone.datagramReceived(cut.span, from: Self.server, at: seconds(0))
        #expect(alone.outcome == nil)
        let stream = alone.nextStream()
        let asked = try #require(stream)
        #expect(asked.to == Self.server && Int(asked.bytes[0]) << 8 | Int(asked.bytes[1]) == asked.bytes.count - 2)
        let (datagram, second) = (alone.nextDatagram(), alone.nextStream())
        #expect(datagram == nil && second == nil)
        let unlike = alone
        // The answer, as it comes: octet by octet.
        response.flags &= ~0x0200
        let whole = response.bytes
        for octet in [UInt8(whole.count >> 8), UInt8(whole.count & 255)] + whole {
            #expect(alone.outcome == nil)
            alone.streamReceived([octet].span, at: seconds(0))
        }
        guard case .records(let records) = alone.outcome else {
            Issue.record("\(String(describing: alone.outcome))")
            return
        }
        #expect(records.count == 1)
        // Another's answer, no answer at all, and none in time.
        for bad in [[0, 12] + [UInt8](repeating: 0, count: 12), [0, 0]] {
            var lookup = unlike
            lookup.streamReceived(bad.span, at: seconds(0))
            #expect(lookup.outcome == .failed("no name server answers"))
        }
        var ended = unlike
        ended.streamEnded(at: seconds(0))
        #expect(ended.outcome == .failed("no name server answers"))
        var silent = unlike
        silent.timerFired(at: seconds(2))
        #expect(silent.outcome == .failed("no name server answers"))
    }

    @Test("Pointers that lead forward or in circles are refused", arguments: ["c00c", "c00e", "c0ff", "c0", "ff"])
    func pointers(_ text: String) {
        var bytes = [UInt8](repeating: 0, count: 12) + hex(text)
        var offset = 12
        #expect(DomainName.read(bytes.span, at: &offset, compressed: true) == nil)
        // A way around with a label in it grows.
        bytes = [UInt8](repeating: 0, count: 12) + hex("0161 c00c")
        offset = 12
        #expect(DomainName.read(bytes.span, at: &offset, compressed: true) == nil)
        offset = 14
        #expect(DomainName.read(bytes.span, at: &offset, compressed: true) == nil)
    }

    @Test("Random octets never trap, and random RDATA is read or refused")
    func anything() throws {
        var random = SeededRandom(seed: 8777)
        let query = DNSQuery(id: 7, question: Self.question)
        let good = ResponseBuilder(to: query.bytes, Self.question)
            .with("5.2.0.192.in-addr.arpa", .cname, to: "driad.example").with("driad.example", .amtRelay, Self.relay)
            .with("driad.example", .srv, [0, 1, 0, 1, 8, 220] + ResponseBuilder.wire(name("relay.example"))).bytes
        var read = 0
        var answers = 0
        for round in 0..<200_000 {
            var rdata = random.octets(Int(random.next() % 40))
            // Half of them of a known type.
            if rdata.count > 1, round % 2 == 0 { rdata[1] &= 0x83 }
            if AMTRelayRecord(rdata.span) != nil { read += 1 }
            guard round % 4 == 0 else { continue }
            var message = good
            for _ in 0..<(1 + random.next() % 6) {
                message[2 + Int(random.next() % UInt64(message.count - 2))] = UInt8(truncatingIfNeeded: random.next())
            }
            if round % 8 == 0 { message.removeLast(Int(random.next() % UInt64(message.count))) }
            if let response = DNSResponse(message.span, to: query) { answers += response.answers.count }
        }
        #expect(read > 100 && answers > 1000, "\(read) records, \(answers) answers")
    }
}
