import QUIC
import TestSupport
import Testing

@testable import Cryptography

/// OpenSSL and IPSec-MB are each other's truth. IPSec-MB is for x86-64.
@Suite struct AEADLibraryTests {
    static let hasIPSecMB: Bool = {
        #if arch(x86_64)
            return AEADLibrary.ipsecMB.name != nil || Machine.requiresAll
        #else
            return false
        #endif
    }()

    @Test(.enabled(if: hasIPSecMB, "IPSec-MB is not installed")) func librarySaysWhatItIs() throws {
        #expect(try #require(AEADLibrary.ipsecMB.name).hasPrefix("Intel IPSec-MB 1."))
        #expect(try #require(AEADLibrary.openSSL.name).hasPrefix("OpenSSL 3."))
    }

    @Test(.enabled(if: hasIPSecMB, "IPSec-MB is not installed"), arguments: CipherSuite.allCases)
    func librariesMakeTheSameOctets(_ suite: CipherSuite) {
        let secret = PacketProtectionTests.secret(suite)
        let sealing = AEADLibrary.allCases.map { SealingKey(suite: suite, secret: secret, library: $0) }
        // Every length up to a large datagram: each kernel has seams of its own.
        for payload in 3...1500 {
            let (plain, plans) = PacketProtectionTests.batch(1, payload: payload, pathID: UInt32(payload % 3))
            let sealed = sealing.map { key in
                var bytes = plain
                var span = bytes.mutableSpan
                key.seal(&span, plans.span)
                return bytes
            }
            guard sealed[0] == sealed[1] else {
                Issue.record("\(suite) packets of \(payload) octets differ")
                return
            }
        }
    }

    @Test(.enabled(if: hasIPSecMB, "IPSec-MB is not installed"), arguments: CipherSuite.allCases)
    func eachOpensWhatTheOtherSealed(_ suite: CipherSuite) {
        let secret = PacketProtectionTests.secret(suite)
        for (one, other) in [(AEADLibrary.openSSL, AEADLibrary.ipsecMB), (.ipsecMB, .openSSL)] {
            let sealing = SealingKey(suite: suite, secret: secret, library: one)
            let opening = OpeningKey(suite: suite, secret: secret, library: other)
            for payload in [3, 15, 16, 17, 64, 500, 1171] {
                let (plain, plans) = PacketProtectionTests.batch(1, payload: payload)
                var bytes = plain
                var span = bytes.mutableSpan
                sealing.seal(&span, plans.span)
                for octet in stride(from: 0, to: bytes.count, by: 41) {
                    var forged = bytes
                    forged[octet] ^= 0x20
                    let before = forged
                    #expect(opening.open(&forged) == nil)
                    #expect(forged == before)
                }
                let opened = opening.open(&bytes)
                #expect(opened?.packetNumber == 1000)
                #expect(bytes.dropLast(16) == plain.dropLast(16))
            }
        }
    }
}
