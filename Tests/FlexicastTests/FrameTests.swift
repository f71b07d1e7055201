import QUIC
import Testing
import Wire

@testable import Flexicast

@Suite struct FrameTests {
    static func hex(_ text: String) -> [UInt8] {
        let digits = Array(text.utf8).map { $0 < 58 ? $0 - 48 : $0 - 87 }
        return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    }

    @Test func announceVectors() throws {
        for vector in WireVectors.announce {
            let octets = Self.hex(vector.octets)
            #expect(vector.frame.encoded == octets)
            var reader = ByteReader(octets.span)
            let type = reader.varint()
            #expect(type == FlexicastFrameType.announce)
            let parsed = try AnnounceFrame(parsing: &reader)
            #expect(parsed == vector.frame)
            let isRead = reader.isAtEnd
            #expect(isRead)
        }
    }

    @Test func stateVectors() throws {
        for vector in WireVectors.state {
            let octets = Self.hex(vector.octets)
            #expect(vector.frame.encoded == octets)
            var reader = ByteReader(octets.span)
            let type = reader.varint()
            #expect(type == FlexicastFrameType.state)
            let parsed = try StateFrame(parsing: &reader)
            #expect(parsed == vector.frame)
            let isRead = reader.isAtEnd
            #expect(isRead)
        }
    }

    @Test func keyVectors() throws {
        for vector in WireVectors.key {
            let octets = Self.hex(vector.octets)
            #expect(vector.frame.encoded == octets)
            var reader = ByteReader(octets.span)
            let type = reader.varint()
            #expect(type == FlexicastFrameType.key)
            let parsed = try KeyFrame(parsing: &reader)
            #expect(parsed == vector.frame)
            let isRead = reader.isAtEnd
            #expect(isRead)
        }
    }

    @Test func supportVectors() throws {
        for vector in WireVectors.support {
            #expect(vector.frame.encoded == Self.hex(vector.octets))
            let parsed = try FlexicastSupport(parsing: Self.hex(vector.octets).span)
            #expect(parsed == vector.frame)
        }
        let none: [UInt8] = []
        let empty = try FlexicastSupport(parsing: none.span)
        #expect(empty == FlexicastSupport(ipv4: true, ipv6: true))
    }

    private func supportError(_ value: [UInt8]) -> TransportError.Code? {
        do {
            _ = try FlexicastSupport(parsing: value.span)
            return nil
        } catch { return error.code }
    }

    @Test func supportOfNeitherVersionIsAViolation() {
        #expect(supportError([0, 0]) == .flexicastViolation)
        #expect(supportError([1]) == .transportParameterError)
        #expect(supportError([1, 2]) == .transportParameterError)
        #expect(supportError([1, 1, 1]) == .transportParameterError)
    }

    /// The error that a session raises for `octets` (a whole frame), nil when it takes them.
    private func announceError(_ octets: [UInt8]) -> TransportError.Code? {
        var reader = ByteReader(octets.span, at: 2)
        do {
            _ = try AnnounceFrame(parsing: &reader)
            return nil
        } catch { return error.code }
    }

    private func stateError(_ octets: [UInt8]) -> TransportError.Code? {
        var reader = ByteReader(octets.span, at: 2)
        do {
            _ = try StateFrame(parsing: &reader)
            return nil
        } catch { return error.code }
    }

    private func keyError(_ octets: [UInt8]) -> TransportError.Code? {
        var reader = ByteReader(octets.span, at: 2)
        do {
            _ = try KeyFrame(parsing: &reader)
            return nil
        } catch { return error.code }
    }

    @Test func everyTruncationIsAnEncodingError() {
        for vector in WireVectors.announce {
            let octets = Self.hex(vector.octets)
            for count in 2..<octets.count { #expect(announceError(Array(octets[..<count])) == .frameEncodingError) }
        }
        for vector in WireVectors.state {
            let octets = Self.hex(vector.octets)
            for count in 2..<octets.count { #expect(stateError(Array(octets[..<count])) == .frameEncodingError) }
        }
        for vector in WireVectors.key {
            let octets = Self.hex(vector.octets)
            for count in 2..<octets.count { #expect(keyError(Array(octets[..<count])) == .frameEncodingError) }
        }
    }

    @Test(arguments: [0, 21, 255] as [UInt8])
    func flowIDLengthOutside1To20(length: UInt8) {
        var state = Self.hex(WireVectors.state[0].octets)
        state[2] = length
        state += [UInt8](repeating: 0, count: 300)
        #expect(stateError(state) == .frameEncodingError)
    }

    @Test(arguments: [0, 1, 5, 7, 255] as [UInt8])
    func ipVersionOtherThan4Or6(version: UInt8) {
        var announce = Self.hex(WireVectors.announce[0].octets)
        announce[12] = version
        announce += [UInt8](repeating: 0, count: 64)
        #expect(announceError(announce) == .frameEncodingError)
    }

    @Test(arguments: [0, 4, 6, 255] as [UInt8])
    func unknownStateAction(action: UInt8) {
        var state = Self.hex(WireVectors.state[0].octets)
        state[state.count - 1] = action
        #expect(stateError(state) == .flexicastViolation)
    }

    @Test func keyOfAnotherLengthOrAlgorithm() {
        var key = Self.hex(WireVectors.key[0].octets)
        key[key.count - 1] = 0x04
        #expect(keyError(key) == .flexicastViolation)
        key[key.count - 1] = 0x02
        #expect(keyError(key) == .flexicastViolation)
        // A key length beyond any memory.
        var huge = Array(key[..<16])
        huge += [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]
        #expect(keyError(huge) == .frameEncodingError)
    }

    @Test func randomOctetsNeverTrap() {
        var random = SeededRandom(seed: 7)
        for _ in 0..<20_000 {
            let count = Int.random(in: 2...100, using: &random)
            let octets = random.octets(count)
            _ = announceError(octets)
            _ = stateError(octets)
            _ = keyError(octets)
        }
    }

    @Test func ackDelayIsBounded() throws {
        var announce = Self.hex(WireVectors.announce[0].octets)
        for index in (announce.count - 8)..<announce.count { announce[index] = 0xff }
        var reader = ByteReader(announce.span, at: 2)
        let frame = try AnnounceFrame(parsing: &reader)
        #expect(frame.parameters.ackDelay == .seconds(60))
    }
}
