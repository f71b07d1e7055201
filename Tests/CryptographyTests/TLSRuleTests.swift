import QUIC
import Testing

@testable import Cryptography

/// What QUIC asks of TLS beyond what TLS asks itself (RFC 9001 sections 4, 5.3 and 8.1), each with a case that only it decides.
@Suite struct TLSRuleTests {
    private static func pair() throws -> TLSPair {
        let server = try TLSSessionTests.server()
        return try TLSPair(TLSSessionTests.client(of: server), server)
    }

    /// Section 4.2: whoever does not speak TLS 1.3 is turned away.
    @Test func olderVersionsEndTheHandshake() throws {
        let pair = try Self.pair()
        pair.run(tamper: { count, bytes in
            guard count == 0, let at = bytes.firstRange(of: [0, 43, 0, 3, 2, 3, 4]) else { return }
            bytes[at.upperBound - 1] = 3
        })
        #expect(pair.server.error?.code == .crypto(alert: 70))
    }

    /// Section 5.3: a suite that nobody knows here is no reason to refuse a ClientHello.
    @Test func unknownSuitesAreNoReason() throws {
        let pair = try Self.pair()
        pair.run(tamper: { count, bytes in
            // After version, random and an empty session ID: the suites' length, then the suites.
            guard count == 0, bytes[38] == 0, bytes[39] == 0, bytes[40] >= 6 else { return }
            bytes[41] = 0x7a
            bytes[42] = 0x7a
        })
        #expect(pair.server.error == nil && pair.server.suites.count == 1)
    }

    private static func afterwards(_ message: [UInt8], to role: Role) throws -> TransportError.Code? {
        let pair = try pair()
        pair.run()
        pair.expectSuccess()
        let end = role == .client ? pair.client : pair.server
        end.attempt { () throws(TransportError) in try end.session.receive(level: .application, message.span) }
        return end.error?.code
    }

    /// Section 4.4: a client is not asked for a certificate after the handshake.
    @Test func lateCertificateRequests() throws {
        #expect(try Self.afterwards([13, 0, 0, 3, 0, 0, 0], to: .client) == .protocolViolation)
        #expect(try Self.afterwards([13, 0, 0, 3, 0, 0, 0], to: .server) == .crypto(alert: 10))
    }

    /// Section 4.6.1: early_data of a ticket has one value.
    @Test func earlyDataOfTickets() throws {
        func ticket(_ earlyData: [UInt8]) -> [UInt8] {
            let body: [UInt8] =
                [0, 0, 0, 9, 1, 2, 3, 4, 1, 7, 0, 2, 5, 6, 0, 13, 0x7a, 0x7a, 0, 1, 0, 0, 42, 0, 4] + earlyData
            return [4, 0, 0, UInt8(body.count)] + body
        }
        #expect(try Self.afterwards(ticket([0, 0, 0x10, 0]), to: .client) == .protocolViolation)
        #expect(try Self.afterwards(ticket([0, 0, 0, 0]), to: .client) == .protocolViolation)
        #expect(try Self.afterwards(ticket([255, 255, 255, 255]), to: .client) != .protocolViolation)
    }

    /// The client's error when the server's EncryptedExtensions, which begin its flight of Handshake packets, are changed.
    private static func clientError(_ change: @escaping (inout [UInt8]) -> Void) throws -> TransportError? {
        let pair = try pair()
        var isChanged = false
        pair.run(
            chunk: 200,
            tamper: { count, bytes in
                guard count > 0, !isChanged, bytes.starts(with: [8, 0, 0]) else { return }
                isChanged = true
                change(&bytes)
            })
        #expect(isChanged)
        return pair.client.error
    }

    /// Where the server names its application protocol.
    private static func protocolName(in bytes: [UInt8]) -> Range<Int>? {
        guard let at = bytes.firstRange(of: [0, 16, 0])?.lowerBound else { return nil }
        return at..<(at + 4 + Int(bytes[at + 3]))
    }

    /// Section 8.1: a server that names a protocol which was not offered, or none, is closed on with no_application_protocol.
    @Test func applicationProtocolsOfTheServer() throws {
        let another = try Self.clientError { bytes in
            if let place = Self.protocolName(in: bytes) { bytes[place.upperBound - 1] ^= 1 }
        }
        #expect(another?.code == .crypto(alert: 120), "\(String(describing: another))")
        let none = try Self.clientError { bytes in
            guard let place = Self.protocolName(in: bytes) else { return }
            bytes[3] -= UInt8(place.count)
            bytes[5] -= UInt8(place.count)
            bytes.removeSubrange(place)
        }
        #expect(none?.code == .crypto(alert: 120))
    }

    /// Section 4.1.3: nothing may follow the last message of a level.
    @Test func octetsBehindALevel() throws {
        let pair = try Self.pair()
        pair.run(tamper: { count, bytes in
            if count > 0, bytes[0] == 2 { bytes += [2, 0, 0, 0] }
        })
        #expect(pair.client.error?.code == .protocolViolation, "\(String(describing: pair.client.error))")
    }
}
