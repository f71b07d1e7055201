import Testing
import Wire

@testable import AMT

/// Packets as routers and hosts read them, written from RFC 791 section 3.1 and RFC 768 alone, without our readers.
private struct RawIPv4 {
    var octets: [UInt8]

    var headerLength: Int { Int(octets[0] & 15) * 4 }
    var totalLength: Int { word(2) }
    var identification: Int { word(4) }
    var mayNotBeFragmented: Bool { octets[6] & 0x40 != 0 }
    var hasMore: Bool { octets[6] & 0x20 != 0 }
    var offset: Int { (word(6) & 0x1fff) * 8 }
    var timeToLive: UInt8 { octets[8] }
    var payload: [UInt8] { Array(octets[headerLength..<totalLength]) }
    /// The one's complement sum of the header, checksum included, is all ones (RFC 1071).
    var isSound: Bool { sum(Array(octets[..<headerLength])) == 0xffff && octets.count == totalLength }

    func word(_ place: Int) -> Int { Int(octets[place]) << 8 | Int(octets[place + 1]) }

    /// Whether the datagram's checksum is right over the pseudo-header.
    var isDatagramSound: Bool {
        let datagram = payload
        return sum(Array(octets[12..<20]) + [0, 17, datagram[4], datagram[5]] + datagram) == 0xffff
    }

    private func sum(_ octets: [UInt8]) -> Int {
        var total = 0
        for (place, octet) in octets.enumerated() { total += place % 2 == 0 ? Int(octet) << 8 : Int(octet) }
        while total > 0xffff { total = total & 0xffff + total >> 16 }
        return total
    }

    /// The procedure of RFC 791 section 3.2: a buffer, a bit for each eight octets, and the total length once it is known.
    static func reassembled(_ pieces: [RawIPv4]) -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        var received = Set<Int>()
        var total: Int?
        for piece in pieces {
            let data = piece.payload
            if piece.hasMore, data.count % 8 != 0 { return nil }
            for (place, octet) in data.enumerated() { buffer[piece.offset + place] = octet }
            for block in stride(from: piece.offset, to: piece.offset + data.count, by: 8) {
                guard received.insert(block / 8).inserted else { return nil }
            }
            if !piece.hasMore { total = piece.offset + data.count }
        }
        guard let total, (0..<(total + 7) / 8).allSatisfy(received.contains) else { return nil }
        return Array(buffer[..<total])
    }
}

/// A packet of a batch.
private struct Captured {
    var octets: [UInt8]
    /// Octets of payload of each datagram, of a segmented send.
    var segment = 0
}

/// What a shell would send.
private struct Sent: Equatable {
    var to: SocketAddress
    var ecn: ECN
    /// Multicast Data messages that leave together.
    var messages: [[UInt8]]
}

extension RelayBox {
    /// Does with a batch what a shell does.
    fileprivate func forward(_ batch: [Captured], at now: Instant = seconds(20)) -> (sent: [Sent], notices: [[UInt8]]) {
        var batch = batch
        for index in batch.indices {
            let segment = batch[index].segment
            var packet = batch[index].octets.mutableSpan
            relay.packetCaptured(&packet, segment: segment)
        }
        var all: [Sent] = []
        var notices: [[UInt8]] = []
        while let step = relay.nextStep(at: now) {
            switch step {
            case .send(let run):
                var octets: [UInt8] = []
                for index in run.packets {
                    octets += [6, 0] + batch[index].octets.prefix(min(run.segment, run.octets - octets.count) - 2)
                }
                let messages = stride(from: 0, to: octets.count, by: run.segment).map {
                    Array(octets[$0..<min($0 + run.segment, octets.count)])
                }
                #expect(octets.count == run.octets && messages.count == run.packets.count)
                for place in run.tunnels.places {
                    guard let to = relay.spend(run, on: place, at: now) else { continue }
                    #expect(to.gateway.address.isIPv4 == run.tunnels.isIPv4)
                    all.append(Sent(to: to.gateway, ecn: run.ecn, messages: messages))
                }
            case .remake(let index, let tunnels):
                let packet = batch[index]
                let remade = relay.remake(index, packet.octets.span, segment: packet.segment, for: tunnels, at: now)
                for message in remade?.messages ?? [] {
                    all.append(Sent(to: message.to.gateway, ecn: message.ecn, messages: [message.octets]))
                }
                notices += remade?.notices ?? []
            }
        }
        return (all, notices)
    }
}

/// What a relay does with the multicast packets that it captures.
@Suite struct RelayForwardingTests {
    private let a = address("192.0.2.1:1001")
    private let b = address("192.0.2.2:1001")
    private let six = address("[2001:db8::7]:1001")
    private let sender = address("10.0.0.1:5")
    private let group = address("232.1.1.1:7")

    private func relay(
        _ gateways: SocketAddress..., change: (inout RelayConfiguration) -> Void = { _ in }
    ) -> RelayBox {
        var configuration = RelayConfiguration()
        change(&configuration)
        let box = RelayBox(Relay(configuration: configuration, seed: SeededRandom(seed: 4), at: seconds(10)))
        for gateway in gateways { box.join(gateway, [GroupRecord(.isInclude, group.address, [sender.address])]) }
        return box
    }

    private func octets(_ count: Int, _ factor: Int = 7) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 * factor + $0 / 256) }
    }

    /// A packet with `count` octets of payload that routers may fragment, named `identification`.
    private func dividable(_ count: Int, identification: UInt16 = 0x1234, ecn: ECN = .notECT) -> Captured {
        Captured(
            octets: AMT.udpPacket(
                octets(count).span, from: sender, to: group, hopLimit: 8, ecn: ecn, identification: identification))
    }

    /// A packet that routers must not fragment.
    private func whole(_ count: Int, to group: SocketAddress? = nil, hopLimit: UInt8 = 8) -> Captured {
        Captured(octets: udpPacket(from: sender, to: group ?? self.group, octets(count), hopLimit: hopLimit))
    }

    private func packets(_ sent: [Sent]) -> [RawIPv4] {
        sent.flatMap(\.messages).map { message in
            #expect(message.prefix(2) == [6, 0])
            return RawIPv4(octets: Array(message.dropFirst(2)))
        }
    }

    // MARK: packets that go as they are

    /// RFC 7450 section 5.1.6: two octets and the packet, which has a hop less (RFC 1812 section 5.3.1).
    @Test func packetsGoIntoTheTunnel() {
        let box = relay(a)
        let (sent, notices) = box.forward([whole(100)])
        #expect(sent.map(\.to) == [a] && sent.map(\.ecn) == [.notECT] && notices.isEmpty)
        let packet = packets(sent)[0]
        #expect(packet.isSound && packet.timeToLive == 7 && packet.isDatagramSound && packet.octets.count == 128)
        #expect(Array(packet.payload.dropFirst(8)) == octets(100))
        #expect(box.forwarding.packetsIn == 1)
    }

    /// What stays: too few hops, for its own link, nobody's, or no packet; each counted.
    @Test func packetsThatStay() {
        let box = relay(a)
        let (sent, _) = box.forward([
            whole(10, hopLimit: 1), whole(10, hopLimit: 0), whole(10, to: address("224.0.0.9:7")),
            Captured(octets: [0x45]), whole(10, to: address("232.9.9.9:7")), whole(10, to: address("232.9.9.9:7")),
            whole(30),
        ])
        #expect(sent.flatMap(\.messages).map(\.count) == [60])
        let counters = box.forwarding
        #expect(counters.expired == 2 && counters.damaged == 2 && counters.unwanted == 2 && counters.packetsIn == 7)
        // The next batch begins anew.
        #expect(box.forward([whole(20)]).sent.flatMap(\.messages).map(\.count) == [50])
    }

    /// Packets of one size and a shorter one behind them leave together, within what one segmented send takes.
    @Test func runs() {
        let box = relay(a)
        func runs(_ sizes: [Int]) -> [[Int]] {
            box.forward(sizes.map { whole($0) }).sent.map { $0.messages.map { $0.count - 30 } }
        }
        #expect(runs([100, 100, 60, 100]) == [[100, 100, 60], [100]])
        #expect(runs([60, 100, 100]) == [[60], [100, 100]])
        #expect(runs([100, 60, 60, 60]) == [[100, 60], [60, 60]])
        #expect(runs([Int](repeating: 100, count: 100)).map(\.count) == [64, 36])
        // 46 messages of 1400 octets are 64 400, one more 65 800: a datagram of UDP has 65 507 at the most.
        #expect(runs([Int](repeating: 1370, count: 50)).map(\.count) == [46, 4])
    }

    /// Channels are told apart where their packets meet, and damaged packets stand between others.
    @Test func channelsInOneBatch() {
        let box = relay(a)
        let other = address("232.1.1.2:7")
        box.join(b, [GroupRecord(.isInclude, other.address, [sender.address])])
        let (sent, _) = box.forward([
            whole(100), whole(100), whole(100, to: other), whole(100), Captured(octets: []), whole(100),
        ])
        #expect(sent.map(\.to) == [a, b, a, a])
        #expect(sent.map(\.messages.count) == [2, 1, 1, 1])
    }

    /// RFC 6040 section 4.1: the tunnel's packets have the mark of what is in them, so that packets of one mark leave
    /// together; where the gateway does not pass marks on, none have one.
    @Test func marks() throws {
        let box = relay(a)
        let query = try #require(box.query(from: b, request: hex("0302000000000009"), at: seconds(10)))
        box.update(query, from: b, [GroupRecord(.isInclude, group.address, [sender.address])], at: seconds(10))
        let marks: [ECN] = [.ect0, .ect0, .ce, .notECT]
        let (sent, _) = box.forward(marks.map { dividable(100, ecn: $0) } + [dividable(1460, ecn: .ect1)])
        #expect(sent.filter { $0.to == a }.allSatisfy { $0.ecn == .notECT })
        #expect(sent.filter { $0.to == a }.map(\.messages.count) == [4, 1, 1])
        #expect(sent.filter { $0.to == b }.map(\.ecn) == [.ect0, .ce, .notECT, .ect1, .ect1])
    }

    /// All that goes to one gateway goes before what goes to the next.
    @Test func gatewaysOneAfterTheOther() {
        let (sent, _) = relay(a, six, b).forward([whole(100), whole(50), whole(100)])
        #expect(sent.map(\.to) == [a, a, six, six, b, b])
    }

    // MARK: packets that are made anew

    /// RFC 7450 section 5.3.3.6.2.1 and RFC 791 section 3.2: the packet inside is fragmented, to what fits the tunnel; the
    /// outer headers take 30 octets around IPv4 and 50 around IPv6.
    @Test(arguments: [576, 600, 1280, 1500], [1481, 2000, 8000, 65_000])
    func fragmentsComeTogetherAgain(tunnelMTU: Int, payload: Int) throws {
        let box = relay(a, six) { $0.tunnelMTU = tunnelMTU }
        let packet = dividable(payload)
        let (sent, notices) = box.forward([packet])
        for (gateway, overhead) in [(a, 30), (six, 50)] {
            let pieces = packets(sent.filter { $0.to == gateway })
            let limit = tunnelMTU - overhead
            #expect(pieces.allSatisfy { $0.isSound && $0.octets.count <= limit && $0.timeToLive == 7 })
            #expect(pieces.allSatisfy { $0.identification == 0x1234 && !$0.mayNotBeFragmented })
            // As few as there can be.
            let most = (limit - 20) / 8 * 8
            #expect(pieces.count == (payload + 8 + most - 1) / most)
            #expect(RawIPv4.reassembled(pieces.reversed()) == RawIPv4(octets: packet.octets).payload)
        }
        #expect(notices.isEmpty && box.forwarding.tooLarge == 0)
    }

    /// The size at which a packet no longer fits is exact.
    @Test func thePacketThatJustFits() {
        for (gateway, overhead) in [(a, 30), (six, 50)] {
            let box = relay(gateway)
            let fits = 1500 - overhead - 28
            #expect(box.forward([dividable(fits)]).sent.flatMap(\.messages).map(\.count) == [1500 - overhead + 2])
            #expect(box.forward([dividable(fits + 1)]).sent.count == 2)
        }
    }

    /// A large packet in the middle breaks a run, and keeps its place.
    @Test func orderIsKept() {
        let (sent, _) = relay(a).forward([whole(100), dividable(1500), whole(100)])
        #expect(sent.map { $0.messages.map(\.count) } == [[130], [1470], [82], [130]])
    }

    /// RFC 7450 section 5.3.3.6.2: what must not be fragmented is dropped, and its sender told of the size that fits, by
    /// RFC 1191 section 4 and RFC 4443 section 3.2. IPv6 is never fragmented on its way (RFC 8200 section 5).
    @Test func sendersOfWhatIsTooLarge() throws {
        let box = relay(a)
        #expect(box.forward([whole(1460)]).notices.isEmpty && box.forwarding.tooLargeTold == 0)
        box.relay.sendersCanBeTold(isIPv4: true)
        let (sent, notices) = box.forward([whole(1460)], at: seconds(30))
        #expect(sent.isEmpty && box.forwarding.tooLarge == 2 && box.forwarding.tooLargeTold == 1)
        let notice = try #require(notices.first)
        #expect(notice.count > 36 && Array(notice[..<2]) == [3, 4] && Array(notice[4..<8]) == hex("0000 05be"))
        #expect(Array(notice[20..<28]) == hex("0a000001 e8010101"), "the packet is quoted")

        let from6 = address("[2001:db8::1]:5")
        let group6 = address("[ff3e::8000:1]:7")
        box.relay.sendersCanBeTold(isIPv4: false)
        let query = try #require(box.query(from: six, request: hex("0301000000000009"), at: seconds(10)))
        box.update(
            query, from: six, [GroupRecord(.isInclude, group6.address, [from6.address])], family: .ipv6, at: seconds(10)
        )
        let large = Captured(octets: udpPacket(from: from6, to: group6, octets(1440)))
        let (sent6, notices6) = box.forward([large], at: seconds(31))
        #expect(sent6.isEmpty && notices6.count == 1)
        #expect(Array(try #require(notices6.first)[..<8]) == hex("0200 0000 0000 05aa"))
    }

    /// A tunnel with a narrower path has its own fragments (RFC 7450 section 5.3.3.6.1).
    @Test func pathsOfTheirOwn() throws {
        let box = relay(a, b) { $0.followsPathMTU = true }
        let error = icmpPacket(3, 4, about: udpPacket(from: address("198.51.100.1:2268"), to: b, [1]))
        let read = TunnelNotice(error.span, isIPv4: true)
        var notice = try #require(read)
        notice.kind = .tooLarge(mtu: 1300)
        box.notice(notice)
        let (sent, _) = box.forward([dividable(1400)])
        #expect(sent.filter { $0.to == a }.flatMap(\.messages).map(\.count) == [1430])
        let pieces = packets(sent.filter { $0.to == b })
        #expect(pieces.count == 2 && pieces.allSatisfy { $0.octets.count <= 1270 })
        #expect(RawIPv4.reassembled(pieces)?.count == 1408)
    }

    /// A segmented send that a kernel has not made final yet becomes the packets that it stands for.
    @Test func segmentedSends() {
        let box = relay(a)
        var packet = dividable(2500)
        packet.segment = 1000
        let made = packets(box.forward([packet]).sent)
        #expect(made.allSatisfy { $0.isSound && $0.isDatagramSound && !$0.hasMore && $0.offset == 0 })
        #expect(made.map { $0.payload.count } == [1008, 1008, 508])
        #expect(Set(made.map(\.identification)).count == 3)
        #expect(made.flatMap { $0.payload.dropFirst(8) } == octets(2500))
        // Packets of it that are too large are fragmented in turn.
        var large = dividable(3200)
        large.segment = 1600
        let pieces = packets(box.forward([large]).sent)
        let groups = Dictionary(grouping: pieces, by: \.identification).values.compactMap(RawIPv4.reassembled)
        #expect(pieces.count == 4 && groups.map(\.count) == [1608, 1608])
    }

    /// tshark agrees: the fragments in the tunnel make the datagram again, with its checksum right.
    @Test(.enabled(if: Tshark.mayRun, "tshark is not installed")) func tsharkReassembles() throws {
        let relayAddress = address("198.51.100.1:2268")
        // A port that is no other protocol's.
        let gateway = address("192.0.2.1:40000")
        let tunnel = relay(gateway).forward([dividable(4000)]).sent.flatMap(\.messages)
            .map { udpPacket(from: relayAddress, to: gateway, $0) }
        #expect(tunnel.allSatisfy { $0.count <= 1500 })
        let fields = ["amt.type", "ip.reassembled.length", "udp.length", "udp.checksum.status"]
        let lines = try Tshark.run(
            tunnel, ["-T", "fields"] + fields.flatMap { ["-e", $0] }
        )
        .split(separator: "\n").map { $0.split(separator: "\t", omittingEmptySubsequences: false) }
        #expect(lines.count == tunnel.count && lines.allSatisfy { $0.first == "6" })
        #expect(lines.last?.dropFirst().joined(separator: " ") == "4008 \(tunnel.last!.count - 20),4008 1,1")
    }

    // MARK: rates

    /// A tunnel that has had its rate gets nothing more, whether packets go as they are or anew; others do.
    @Test func tunnelsHaveARate() {
        let box = relay(a) { $0.endpointRate = 80_000 }
        // 10 000 octets a second: a quarter of a second's worth may be ahead, and the send that ends it goes whole.
        var sent = 0
        for _ in 0..<10 { sent += box.forward([whole(1000)]).sent.count }
        #expect(sent == 3 && box.forwarding.overRate == 7)
        let pieces = relay(a) { $0.endpointRate = 80_000 }
        #expect(pieces.forward([dividable(8000)]).sent.count == 2 && pieces.forwarding.overRate == 4)
    }

    @Test func channelsHaveARate() {
        let box = relay(a, b) { $0.channelRate = 80_000 }
        var sent = 0
        for _ in 0..<10 { sent += box.forward([whole(1000), whole(1000)]).sent.count }
        #expect(sent == 2 * 2 && box.forwarding.overChannelRate == 16 && box.forwarding.overRate == 0)
    }

    /// The shell tells what found room to be sent from.
    @Test func copiesAreCounted() {
        let box = relay(a)
        box.relay.copied(2, 260, isQueued: true)
        box.relay.copied(1, 130, isQueued: false)
        let counters = box.forwarding
        #expect(counters.packetsOut == 2 && counters.octetsOut == 260 && counters.queueFull == 1)
    }

    // MARK: packets that come by ordinary sockets

    @Test func packetsThatWereMadeAgain() {
        let box = relay(a, six)
        let packet = dividable(100).octets
        let large = dividable(1470).octets
        let messages = box.relay.packetsReceived(
            [packet, large], from: sender.address, to: group.address, at: seconds(20))
        #expect(messages.map(\.to.gateway) == [a, a, a, six, six, six])
        #expect(Array(messages[0].octets.dropFirst(2)) == packet)
        let pieces = messages[1...2].map { RawIPv4(octets: Array($0.octets.dropFirst(2))) }
        #expect(RawIPv4.reassembled(pieces) == RawIPv4(octets: large).payload)
        #expect(box.forwarding.packetsIn == 2 && box.forwarding.unwanted == 0)
        let nobody = box.relay.packetsReceived([packet], from: ip("10.0.0.2"), to: group.address, at: seconds(20))
        #expect(nobody.isEmpty && box.forwarding.unwanted == 1)
        let step = box.relay.nextStep(at: seconds(20))
        #expect(step == nil)
    }
}

/// When a relay looks a little later.
@Suite struct BatchPaceTests {
    private func after(_ microseconds: Int64) -> Instant { Instant(nanoseconds: microseconds * 1000) }

    /// The ninth small batch in close order is the first that is worth a pause.
    @Test func smallBatchesInCloseOrderGather() {
        var pace = BatchPace()
        var pauses: [Int64] = []
        for number: Int64 in 0..<10 {
            if let until = pace.ended(1, at: after(number * 100)) {
                pauses.append(until.nanoseconds / 1000 - number * 100)
            }
        }
        // The first is close to nothing, and the pause counts as time that passed.
        #expect(pauses == [60])
        let next = pace.ended(1, at: after(1050))
        #expect(next == after(1110))
    }

    @Test func nothingElseGathers() {
        var pace = BatchPace()
        for number: Int64 in 0..<50 {
            let far = pace.ended(1, at: after(number * 151))
            #expect(far == nil, "they come now and then")
        }
        pace = BatchPace()
        for number: Int64 in 0..<50 {
            let good = pace.ended(24, at: after(number * 10))
            #expect(good == nil, "a batch is worth its turn")
        }
        // A gap ends the close order.
        for number: Int64 in 0..<9 { _ = pace.ended(1, at: after(10_000 + number * 10)) }
        let late = pace.ended(1, at: after(20_000))
        let soon = pace.ended(1, at: after(20_010))
        #expect(late == nil && soon == nil)
    }
}
