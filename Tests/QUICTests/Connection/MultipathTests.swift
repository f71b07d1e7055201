import Testing
import Wire

@testable import QUIC

/// What both ends of a connection make of draft-ietf-quic-multipath-21, of which they use path IDs and PATH_ACK.
@Suite struct MultipathTests {
    private static var configuration: ConnectionConfiguration {
        var configuration = ConnectionConfiguration()
        configuration.parameters.initialMaxPathID = 4
        return configuration
    }

    private static func pair() -> ClearPair {
        var pair = ClearPair(client: configuration, server: configuration)
        pair.handshake()
        return pair
    }

    /// The server's connection after a 1-RTT packet with `frame`: the code it closes with, or nil.
    private static func answer(to frame: [UInt8]) -> TransportError.Code? {
        var pair = pair()
        ClearPair.inject(frame, number: 1000, from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        pair.pump()
        guard case .local(let error) = pair.serverEvents.closeReason else { return nil }
        return error.code
    }

    /// A multipath connection takes PATH_ACK and nothing else changes; a frame for a path above our limit is refused.
    @Test func multipathIsNegotiated() {
        var pair = Self.pair()
        #expect(pair.server.isMultipathNegotiated && pair.client.isMultipathNegotiated)
        ClearPair.inject(
            [0x3e, 0, 0, 0, 0, 0], number: 1000, from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        #expect(pair.server.isActive == true)
        #expect(Self.answer(to: [0x7e, 0x76, 4, 0]) == nil)
        #expect(Self.answer(to: [0x7e, 0x76, 5, 0]) == .protocolViolation)
    }

    /// Section 4.6: below initial_max_path_id, or above 2^32-1.
    @Test func maximumPathIDs() {
        let prefix: [UInt8] = [0x7e, 0x7a]
        #expect(Self.answer(to: prefix + [4]) == nil)
        #expect(Self.answer(to: prefix + [3]) == .protocolViolation)
        #expect(Self.answer(to: prefix + [0xc0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]) == nil)
        #expect(Self.answer(to: prefix + [0xc0, 0, 0, 1, 0, 0, 0, 0]) == .protocolViolation)
    }

    /// Section 4.7: nobody can be blocked by a limit that is above ours.
    @Test func pathsBlocked() {
        #expect(Self.answer(to: [0x7e, 0x7b, 4]) == nil)
        #expect(Self.answer(to: [0x7e, 0x7b, 5]) == .protocolViolation)
    }

    /// Section 4.7: nobody waits for an ID beyond the next. ID 0 of path 0 is the handshake's, and other paths have none.
    @Test func connectionIDsBlocked() {
        #expect(Self.answer(to: [0x7e, 0x7c, 0, 1]) == nil)
        #expect(Self.answer(to: [0x7e, 0x7c, 0, 2]) == .protocolViolation)
        #expect(Self.answer(to: [0x7e, 0x7c, 3, 0]) == nil)
        #expect(Self.answer(to: [0x7e, 0x7c, 3, 1]) == .protocolViolation)
        #expect(Self.answer(to: [0x7e, 0x7c, 5, 0]) == .protocolViolation)
    }

    /// PATH_NEW_CONNECTION_ID of `path`.
    private static func newID(_ sequence: UInt8, path: UInt8 = 0, retirePriorTo: UInt8 = 0) -> [UInt8] {
        [0x7e, 0x78, path, sequence, retirePriorTo, 8] + [UInt8](repeating: sequence, count: 24)
    }

    /// Section 3.2: a peer renews the IDs of path 0 by the frames of either kind, as often as it likes.
    @Test func idsOfTheOnlyPathAreRenewed() {
        var pair = Self.pair()
        var number: UInt64 = 1000
        func say(_ payload: [UInt8], _ pair: inout ClearPair) {
            number += 1
            ClearPair.inject(payload, number: number, from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        }
        for sequence in UInt8(1)...12 {
            let plain = [0x18, sequence, sequence] + Self.newID(sequence).dropFirst(5)
            say(sequence % 3 == 0 ? plain : Self.newID(sequence, retirePriorTo: sequence), &pair)
            #expect(pair.server.remoteID == ConnectionID([UInt8](repeating: sequence, count: 8)))
            var sent: [UInt8] = []
            while let (bytes, plans) = ClearPair.transmit(&pair.server, at: pair.now) {
                sent += plans.flatMap { ClearPair.payload(of: $0, in: bytes) }
                for plan in plans {
                    say([0x02] + [UInt8].written(capacity: 8) { $0.varint(plan.packetNumber) } + [0, 0, 0], &pair)
                }
            }
            #expect(sent.contains([0x19, sequence - 1]))
        }
        #expect(pair.server.isActive == true)
    }

    /// IDs of ours that a peer retires by PATH_RETIRE_CONNECTION_ID are replaced.
    @Test func idsThatThePeerRetiresAreReplaced() {
        var pair = Self.pair()
        for round in UInt8(1)...6 {
            let id = ConnectionID([UInt8](repeating: round, count: 8))!
            pair.server.provideConnectionID(id, resetToken: [UInt8](repeating: round, count: 16))
            ClearPair.inject(
                [0x7e, 0x79, 0, round], number: 1000 + UInt64(round), from: ClearPair.clientAddress, to: &pair.server,
                at: pair.now)
            var retired: [ConnectionID] = []
            var wanted = 0
            while let event = pair.server.nextEvent() {
                if case .connectionIDRetired(let id) = event { retired.append(id) }
                if case .connectionIDsWanted(let count) = event { wanted += count }
            }
            #expect(retired == [id] && wanted == 1)
        }
        #expect(pair.server.isActive == true)
    }

    /// Further paths have no IDs of ours, and what the peer issues for them changes nothing here.
    @Test func furtherPathsHaveNoIDs() {
        #expect(Self.answer(to: [0x7e, 0x79, 3, 0]) == .protocolViolation, "it was never issued")
        #expect(Self.answer(to: [0x7e, 0x79, 0, 9]) == .protocolViolation, "nor was this one")
        #expect(Self.answer(to: [0x7e, 0x75, 3, 0, 0x7e, 0x79, 3, 0]) == nil, "late, on an abandoned path")
        for (sequence, retirePriorTo) in [(0, 0), (1, 1), (9, 4)] as [(UInt8, UInt8)] {
            #expect(Self.answer(to: Self.newID(sequence, path: 3, retirePriorTo: retirePriorTo)) == nil)
        }
        #expect(Self.answer(to: Self.newID(1, path: 3, retirePriorTo: 2)) == .frameEncodingError)
        #expect(
            Self.answer(to: Self.newID(1) + Self.newID(2) + Self.newID(3) + Self.newID(4)) == .connectionIDLimitError)
        var pair = Self.pair()
        let before = pair.server.remoteID
        for sequence in UInt8(0)...20 {
            ClearPair.inject(
                Self.newID(sequence, path: 3, retirePriorTo: sequence), number: 1000 + UInt64(sequence),
                from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        }
        #expect(pair.server.remoteID == before && pair.server.isActive == true)
    }

    /// Section 3.4: PATH_ABANDON is answered with PATH_ABANDON, once, and what came on the path is acknowledged before it goes.
    @Test func anAbandonedPathIsAbandoned() {
        var pair = Self.pair()
        pair.client.openReceivePath(3, ackDelay: .seconds(1), phase: .zero)
        let datagram = [UInt8](repeating: 0, count: 13) + [0x01] + [UInt8](repeating: 0, count: 16)
        let run = RunPlan(
            start: 0, packetSize: datagram.count, end: datagram.count, headerLength: 9, firstPacketNumber: 7,
            keyGeneration: 0)
        var none = NoExtension()
        pair.client.flowPacketsReceived(
            pathID: 3, run, in: datagram.span, ecn: .notECT, at: pair.now, extension: &none)
        for number: UInt64 in [1000, 1001] {
            ClearPair.inject(
                [0x7e, 0x75, 3, 0], number: number, from: ClearPair.serverAddress, to: &pair.client, at: pair.now)
        }
        var sent: [UInt8] = []
        while let datagram = ClearPair.transmit(&pair.client, at: pair.now) { sent += datagram.0 }
        let answer: [UInt8] = [0x7e, 0x75, 3, 0]
        #expect((0..<(sent.count - 4)).count { sent[$0..<($0 + 4)].elementsEqual(answer) } == 1)
        #expect(sent.contains([0x3e, 3, 7]))
        #expect(pair.client.largestReceived(onPath: 3) == nil)
        var abandoned: [UInt64] = []
        while let event = pair.client.nextEvent() {
            if case .pathAbandoned(let path) = event { abandoned.append(path) }
        }
        #expect(abandoned == [3])
        #expect(Self.answer(to: [0x7e, 0x75, 0, 0]) == .noError, "there is no other way to talk")
    }

    /// Section 2.1: who has no connection ID, or whose peer has none, offers no paths.
    @Test(arguments: [0, 8], [0, 8]) func noPathsWithoutConnectionIDs(client: Int, server: Int) {
        func id(_ count: Int) -> ConnectionID { ConnectionID([UInt8](repeating: 1, count: count))! }
        let now = Instant(nanoseconds: 0)
        let clientEnd = Connection(
            client: Self.configuration, to: ClearPair.serverAddress, localID: id(client), serverID: id(8),
            seed: SeededRandom(seed: 1), at: now)
        let serverEnd = Connection(
            server: Self.configuration, to: ClearPair.clientAddress, localID: id(server), clientID: id(client),
            original: id(8), retrySource: nil, addressValidated: true, resetToken: nil, seed: SeededRandom(seed: 1),
            at: now)
        #expect((clientEnd.localParameters.initialMaxPathID == 4) == (client > 0))
        #expect((serverEnd.localParameters.initialMaxPathID == 4) == (client > 0 && server > 0))
    }

    /// Section 2.1: an offer in a packet with an ID of no length is a violation, where the extension is known.
    @Test(arguments: [true, false]) func offersWithoutConnectionIDs(isKnown: Bool) {
        var pair = ClearPair()
        var server = Connection(
            server: isKnown ? Self.configuration : ConnectionConfiguration(), to: ClearPair.clientAddress,
            localID: pair.server.localConnectionIDs[0], clientID: .empty,
            original: ConnectionID([UInt8](repeating: 1, count: 8))!, retrySource: nil, addressValidated: true,
            resetToken: nil, seed: SeededRandom(seed: 1), at: pair.now)
        var parameters = Self.configuration.parameters
        parameters.initialSourceConnectionID = .empty
        server.peerParametersReceived(parameters.encoded(), at: pair.now)
        var reason: CloseReason?
        while let event = server.nextEvent() { if case .closed(let why) = event { reason = why } }
        guard isKnown else { return #expect(reason == nil) }
        guard case .local(let error) = reason else { return #expect(Bool(false), "still open") }
        #expect(error.code == .protocolViolation)
        pair.pump()
    }
}
