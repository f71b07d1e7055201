import Testing
import Wire

@testable import QUIC

/// What a peer's NEW_CONNECTION_ID frames may do: RFC 9000 sections 5.1 and 19.15.
@Suite struct ConnectionIDTests {
    private static func id(_ sequence: UInt64) -> ConnectionID {
        ConnectionID([UInt8](repeating: UInt8(truncatingIfNeeded: sequence), count: 8))!
    }

    private static func frame(_ sequence: UInt64, retirePriorTo: UInt64 = 0, token: UInt8 = 7) -> [UInt8] {
        [UInt8].written(capacity: 60) { writer in
            writer.uint8(0x18)
            writer.varint(sequence)
            writer.varint(retirePriorTo)
            writer.uint8(8)
            writer.octets(id(sequence).octets.span)
            writer.octets([UInt8](repeating: token, count: 16).span)
        }
    }

    /// A server, the client of which says what is asked for from where it is asked.
    private struct Talk: ~Copyable {
        var pair = ClearPair()
        private var number: UInt64 = 1000

        init() { pair.handshake() }

        mutating func say(_ payload: [UInt8], from address: SocketAddress = ClearPair.clientAddress) {
            ClearPair.inject(payload, number: number, from: address, to: &pair.server, at: pair.now)
            number += 1
        }

        var error: TransportError.Code? {
            mutating get {
                while let event = pair.server.nextEvent() {
                    if case .closed(.local(let error)) = event { return error.code }
                }
                return nil
            }
        }
    }

    private static func address(_ index: Int) -> SocketAddress { SocketAddress("203.0.113.\(index):1")! }

    /// Section 19.15: a frame that comes again is no error, also when its ID was used and retired. It stays retired.
    @Test func aRetiredIDDoesNotComeBack() {
        var talk = Talk()
        talk.say(Self.frame(1) + Self.frame(2) + Self.frame(3))
        for move in 1...2 { talk.say([0x01], from: Self.address(move)) }
        #expect(talk.pair.server.remoteID == Self.id(2))
        talk.say(Self.frame(1), from: Self.address(2))
        talk.say(Self.frame(4) + Self.frame(5), from: Self.address(2))
        #expect(talk.error == nil)
        for move in 3...5 { talk.say([0x01], from: Self.address(move)) }
        #expect(talk.pair.server.remoteID == Self.id(5), "2, 3, 4 and 5, and no other")
    }

    /// Section 19.15: RETIRE_CONNECTION_ID for an ID that comes late goes out once.
    @Test func whatComesLateIsRetiredOnce() {
        var ids = RemoteConnectionIDs(first: Self.id(0))
        let token = [UInt8](repeating: 7, count: 16)
        for sequence: UInt64 in [2, 1, 1] {
            #expect(throws: Never.self) {
                try ids.add(
                    sequence: sequence, retirePriorTo: sequence == 2 ? 2 : 0, id: Self.id(sequence), token: token)
            }
        }
        #expect(ids.pendingRetire.sorted() == [0, 1])
    }

    /// Section 19.15: the same number with another ID, with another token, or the same ID under another number.
    @Test func aFrameMustNotContradictAnother() {
        let first = Self.frame(1)
        var otherID = first
        otherID[5] ^= 1
        var otherNumber = first
        otherNumber[1] = 2
        for (other, code) in [
            (first, nil), (otherID, .protocolViolation), (Self.frame(1, token: 8), .protocolViolation),
            (otherNumber, TransportError.Code.protocolViolation),
        ] {
            var talk = Talk()
            talk.say(first)
            talk.say(other)
            #expect(talk.error == code)
        }
    }

    /// A peer that leaves numbers out has us remember a few runs of them.
    @Test func runsOfNumbersAreBounded() {
        var ids = RemoteConnectionIDs(first: Self.id(0))
        let token = [UInt8](repeating: 7, count: 16)
        for index in 1...UInt64(200) {
            let sequence = 2 * index
            #expect(throws: Never.self) {
                try ids.add(sequence: sequence, retirePriorTo: sequence, id: Self.id(sequence), token: token)
            }
            while ids.takePendingRetire() != nil { ids.retireFrameAcknowledged() }
            #expect(ids.received.count <= RemoteConnectionIDs.maxReceivedRuns)
        }
        #expect(ids.received.count == RemoteConnectionIDs.maxReceivedRuns)
    }

    /// CVE-2024-22189 by another way: a client that moves for ever, gives new IDs and never acknowledges that old ones are retired.
    @Test func movesDoNotMakeUsOweForEver() {
        var ids = RemoteConnectionIDs(first: Self.id(0))
        let token = [UInt8](repeating: 7, count: 16)
        var moved = 0
        var refused = false
        for sequence in 1...UInt64(200) where !refused {
            do {
                try ids.add(sequence: sequence, retirePriorTo: 0, id: Self.id(sequence), token: token)
            } catch { refused = error.code == .connectionIDLimitError }
            if ids.rotate() { moved += 1 }
            if let retired = ids.takePendingRetire() { ids.retireFrameLost(retired) }
        }
        #expect(refused && moved == RemoteConnectionIDs.maxRetirePending)
        #expect(ids.pendingRetire.count == RemoteConnectionIDs.maxRetirePending)
    }
}
