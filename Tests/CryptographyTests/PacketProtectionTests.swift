import CShims
import QUIC
import Testing
import Wire

@testable import Cryptography

@Suite struct PacketProtectionTests {
    /// Short-header packets one after the other, each with an 8-octet ID and `payload` octets of content.
    static func batch(_ count: Int, payload: Int, pathID: UInt32 = 0) -> (bytes: [UInt8], plans: [PacketPlan]) {
        var bytes: [UInt8] = []
        var plans: [PacketPlan] = []
        for index in 0..<count {
            let start = bytes.count
            let length = index % 4 + 1
            let number = UInt64(1000 + index)
            bytes.append(0x40 | UInt8(length - 1))
            bytes += (0..<8).map { UInt8($0) }
            bytes += (0..<length).reversed().map { UInt8(truncatingIfNeeded: number >> UInt64(8 * $0)) }
            bytes += (0..<payload).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ index) }
            bytes += [UInt8](repeating: 0, count: 16)
            plans.append(
                PacketPlan(
                    level: .application, start: start, packetNumberOffset: start + 9, packetNumberLength: length,
                    end: bytes.count, packetNumber: number, pathID: pathID))
        }
        return (bytes, plans)
    }

    static func secret(_ suite: CipherSuite, _ fill: UInt8 = 7) -> [UInt8] {
        [UInt8](repeating: fill, count: suite.secretLength)
    }

    @Test(arguments: CipherSuite.allCases) func batchEqualsSingle(_ suite: CipherSuite) {
        // More than the library takes at once, so that the seam between two calls is crossed.
        let (plain, plans) = Self.batch(37, payload: 100)
        let key = SealingKey(suite: suite, secret: Self.secret(suite))
        var single = plain
        for plan in plans {
            var span = single.mutableSpan
            key.seal(&span, plan)
        }
        var batched = plain
        var span = batched.mutableSpan
        key.seal(&span, plans.span)
        #expect(single == batched)
        #expect(single != plain)
        #expect(key.sealedCount == 74)
        span = batched.mutableSpan
        key.seal(&span, [PacketPlan]().span)
        #expect(single == batched && key.sealedCount == 74)
    }

    /// Keys take turns with a few contexts of the libraries: none may get another's, whoever was there before or is gone.
    @Test(arguments: CipherSuite.allCases, AEADLibrary.allCases)
    func manyKeysTakeTurns(_ suite: CipherSuite, _ library: AEADLibrary) {
        let (plain, plans) = Self.batch(3, payload: 50)
        func make(_ index: Int) -> SealingKey {
            SealingKey(suite: suite, secret: Self.secret(suite, UInt8(index)), library: library)
        }
        func sealed(_ key: SealingKey) -> [UInt8] {
            var bytes = plain
            var span = bytes.mutableSpan
            key.seal(&span, plans.span)
            return bytes
        }
        let expected = (0..<40).map { sealed(make($0)) }
        #expect(Set(expected).count == 40)
        var keys = (0..<40).map(make)
        for round in 0..<4 {
            for index in keys.indices where round == 0 || index % round == 0 {
                #expect(sealed(keys[index]) == expected[index])
                let opening = OpeningKey(suite: suite, secret: Self.secret(suite, UInt8(index)), library: library)
                var bytes = Array(expected[index][..<plans[0].end])
                #expect(opening.open(&bytes) != nil)
            }
            for index in stride(from: round, to: 40, by: 7) { keys[index] = make(index) }
        }
    }

    @Test(arguments: CipherSuite.allCases) func roundTrip(_ suite: CipherSuite) throws {
        let (plain, plans) = Self.batch(5, payload: 1183)
        var bytes = plain
        var span = bytes.mutableSpan
        SealingKey(suite: suite, secret: Self.secret(suite)).seal(&span, plans.span)
        let key = OpeningKey(suite: suite, secret: Self.secret(suite))
        var largest: UInt64 = 999
        for plan in plans {
            span = bytes.mutableSpan
            let result = key.open(
                &span, start: plan.start, packetNumberOffset: plan.packetNumberOffset, end: plan.end,
                largest: largest)
            let opened = try #require(result)
            #expect(opened.packetNumber == plan.packetNumber)
            #expect(
                Array(bytes[plan.start..<opened.payload.upperBound])
                    == Array(plain[plan.start..<opened.payload.upperBound]))
            largest = opened.packetNumber
        }
        #expect(key.failedCount == 0)
    }

    @Test(arguments: CipherSuite.allCases) func tamperedPacketFailsAndBufferIsAsBefore(_ suite: CipherSuite) {
        let (plain, plans) = Self.batch(1, payload: 40)
        var sealed = plain
        var span = sealed.mutableSpan
        SealingKey(suite: suite, secret: Self.secret(suite)).seal(&span, plans[0])
        let key = OpeningKey(suite: suite, secret: Self.secret(suite))
        for index in sealed.indices {
            var forged = sealed
            forged[index] ^= 0x04
            let before = forged
            #expect(key.open(&forged) == nil)
            #expect(forged == before)
        }
        #expect(key.failedCount == UInt64(sealed.count))
        // A try with the wrong key leaves the packet fit for the right one.
        let wrong = OpeningKey(suite: suite, secret: Self.secret(suite, 8))
        #expect(wrong.open(&sealed) == nil)
        #expect(key.open(&sealed) != nil)
    }

    @Test func shortPacketsNeverTrap() {
        let key = OpeningKey(suite: .aes128GCM, secret: Self.secret(.aes128GCM))
        for count in 0..<40 {
            var bytes = [UInt8](repeating: 0x41, count: count)
            var span = bytes.mutableSpan
            let inside = key.open(&span, start: 0, packetNumberOffset: 9, end: count, largest: nil)
            let beyond = key.open(&span, start: 0, packetNumberOffset: 1, end: count + 1, largest: nil)
            #expect(inside == nil && beyond == nil)
            #expect(bytes == [UInt8](repeating: 0x41, count: count))
        }
    }

    /// The example of draft-ietf-quic-multipath-21 section 2.4: sealing with path 3 is sealing with its nonce.
    @Test func multipathNonce() {
        let key = hex("000102030405060708090a0b0c0d0e0f")
        func sealed(iv: String, number: UInt64, path: UInt32) -> [UInt8] {
            var buffer = [UInt8](repeating: 9, count: 60)
            let packet = fc_packet(
                start: 0, number_offset: 1, payload_offset: 5, end: 60, number: number, path: path, mask: 0)
            var span = buffer.mutableSpan
            PacketCipher(.aes128GCM, key: key, iv: hex(iv), sealing: true)
                .seal(&span, [packet].span, mask: nil)
            return buffer
        }
        let made = sealed(iv: "6b26114b9cba2b63a9e8dd4f", number: 54321, path: 3)
        #expect(made == sealed(iv: "6b2611489cba2b63a9e8097e", number: 0, path: 0))
        #expect(made != sealed(iv: "6b26114b9cba2b63a9e8dd4f", number: 54321, path: 0))
    }

    @Test func pathIDIsAuthenticated() {
        var (bytes, plans) = Self.batch(1, payload: 30, pathID: 1)
        var span = bytes.mutableSpan
        SealingKey(suite: .aes128GCM, secret: Self.secret(.aes128GCM)).seal(&span, plans.span)
        let key = OpeningKey(suite: .aes128GCM, secret: Self.secret(.aes128GCM))
        #expect(key.open(&bytes, pathID: 0) == nil)
        #expect(key.open(&bytes, pathID: 1) != nil)
    }

    @Test func flowTakesFourOctetPacketNumbersOnly() {
        let (plain, plans) = Self.batch(4, payload: 30)
        var bytes = plain
        var span = bytes.mutableSpan
        SealingKey(suite: .aes128GCM, secret: Self.secret(.aes128GCM)).seal(&span, plans.span)
        let key = OpeningKey(suite: .aes128GCM, secret: Self.secret(.aes128GCM))
        let opened = plans.map { plan in
            var copy = bytes
            var span = copy.mutableSpan
            return key.open(
                &span, start: plan.start, packetNumberOffset: plan.packetNumberOffset, end: plan.end, largest: 999,
                packetNumberLength: 4) != nil
        }
        #expect(opened == [false, false, false, true])
    }
}
