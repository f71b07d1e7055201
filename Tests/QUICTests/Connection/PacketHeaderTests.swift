import Testing
import Wire

@testable import QUIC

/// What the parts of a packet that nobody encrypts must be, by RFC 9000 section 17.
@Suite("Packet headers")
struct PacketHeaderTests {
    private static func long(first: UInt8 = 0xe0, destination: Int = 8, source: Int = 8) -> [UInt8] {
        [first, 0, 0, 0, 1, UInt8(destination)] + [UInt8](repeating: 7, count: destination) + [UInt8(source)]
            + [UInt8](repeating: 9, count: source) + [20] + [UInt8](repeating: 0, count: 20)
    }

    private static func parse(_ datagram: [UInt8]) -> PacketHeader? {
        PacketHeader.parse(datagram.span, at: 0, shortIDLength: 8)
    }

    /// Sections 17.2 and 17.3.1: the second bit is 1, or it is no packet of this version.
    @Test func theFixedBit() {
        #expect(Self.parse(Self.long())?.kind == .handshake)
        #expect(Self.parse(Self.long(first: 0xa0)) == nil)
        let short = [UInt8](repeating: 0x40, count: 40)
        #expect(Self.parse(short)?.kind == .oneRTT)
        #expect(Self.parse([0] + short.dropFirst()) == nil)
        // Too short for its connection ID (section 10.3).
        #expect(Self.parse(Array(short.prefix(8))) == nil)
    }

    /// Section 17.4: the spin bit says nothing to who has it disabled.
    @Test func theSpinBit() {
        var datagram = [UInt8](repeating: 0x40, count: 40)
        let without = Self.parse(datagram)
        datagram[0] |= 0x20
        #expect(without != nil && Self.parse(datagram) == without)
        let id = ConnectionID([UInt8](repeating: 0x40, count: 8))!
        let isShort = PacketHeader.areShort(datagram.span, ofSize: 40, to: id)
        #expect(isShort)
    }

    /// Section 17.2.
    @Test func connectionIDsHaveTwentyOctetsAtTheMost() {
        for count in [0, 20] {
            #expect(Self.parse(Self.long(destination: count)) != nil)
            #expect(Self.parse(Self.long(source: count)) != nil)
        }
        #expect(Self.parse(Self.long(destination: 21)) == nil)
        #expect(Self.parse(Self.long(source: 21)) == nil)
        #expect(ConnectionID([UInt8](repeating: 1, count: 20)) != nil)
        #expect(ConnectionID([UInt8](repeating: 1, count: 21)) == nil)
    }

    /// Sections 17.2 and 17.3.1: both kinds of header leave with their reserved bits zero; section 14.1: Initial packets that
    /// ask for an acknowledgement fill 1200 octets.
    @Test func headersThatLeave() throws {
        var pair = ClearPair()
        pair.client.queueHandshakeBytes([1], at: .initial)
        pair.server.queueHandshakeBytes([2], at: .initial)
        for isClient in [true, false] {
            let datagram =
                isClient
                ? ClearPair.transmit(&pair.client, at: pair.now) : ClearPair.transmit(&pair.server, at: pair.now)
            let (bytes, plans) = try #require(datagram)
            #expect(plans.map(\.level) == [.initial] && bytes.count >= 1200)
            #expect(bytes[0] & 0x0c == 0)
        }
        pair = ClearPair()
        pair.handshake()
        let stream = try pair.client.openStream(bidirectional: false)
        try pair.client.write(stream, [UInt8](repeating: 1, count: 5000), fin: true)
        while let (bytes, plans) = ClearPair.transmit(&pair.client, at: pair.now) {
            for plan in plans { #expect(bytes[plan.start] & 0xd8 == 0x40) }
        }
    }

    /// Sections 17.2.5.1 and 17.2.5.2: a Retry counts once, with a token and another ID than the one in use.
    @Test func retriesThatAreIgnored() {
        var pair = ClearPair()
        let other = ConnectionID([UInt8](repeating: 3, count: 8))!
        let first = pair.client.remoteID
        let cases: [(source: ConnectionID, token: [UInt8], isTaken: Bool)] = [
            (first, [1], false), (other, [], false), (other, [1], true), (ConnectionID([4])!, [1], false),
        ]
        for (source, token, isTaken) in cases {
            let wasTaken = pair.client.retryReceived(source: source, token: token, at: pair.now)
            #expect(wasTaken == isTaken)
        }
        #expect(pair.client.remoteID == other)
    }
}
