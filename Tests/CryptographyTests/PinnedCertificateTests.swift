import QUIC
import TestSupport
import Testing
import Wire

@testable import Cryptography

/// Certificates that are trusted for what they are, and servers that are the same one after a restart.
@Suite struct PinnedCertificateTests {
    private static let alpn = TLSSessionTests.alpn

    /// As OpenSSL's own program prints it, and as we do.
    @Test func theFingerprintIsTheOneOfOpenSSL() throws {
        let server = try TLSSessionTests.server()
        let openssl = try #require(Machine.path(of: "openssl"))
        let printed = try run(
            openssl, ["x509", "-noout", "-fingerprint", "-sha256"], input: server.certificatePEM)
        let digits = try #require(printed.output.split(separator: "=").last).filter { !$0.isWhitespace }
        let fingerprint = try #require(server.certificateFacts?.fingerprint)
        #expect(CertificateFingerprint("sha256/\(digits)") == fingerprint)
        #expect(CertificateFingerprint("\(fingerprint)") == fingerprint)
        #expect(CertificateFingerprint("SHA256/\(digits.lowercased())") == fingerprint)
    }

    @Test(arguments: [
        "", "sha256/", "sha256/00", "sha1/\(String(repeating: "0", count: 64))",
        "sha256/\(String(repeating: "0", count: 63))g", "sha256/\(String(repeating: "0", count: 65))",
        "sha256/\(String(repeating: "00:", count: 32))", "sha256/\(String(repeating: "0:0", count: 31))00",
        "sha256/ä\(String(repeating: "0", count: 62))",
    ]) func noFingerprint(_ text: String) { #expect(CertificateFingerprint(text) == nil) }

    /// The name asked for is not in it, and it has run out: the pin is enough, and nothing but the pin.
    @Test func whoIsPinnedIsBelievedAndNobodyElse() throws {
        let old = try TLSContext.server(CertificatePEM(selfSignedFor: ["other.test"], days: -1), alpn: Self.alpn)
        let stranger = try TLSContext.server(selfSignedFor: ["source.test"], alpn: Self.alpn)
        let facts = try #require(old.certificateFacts)
        let other = try #require(stranger.certificateFacts)
        #expect(facts.validUntil < other.validFrom)
        let client = try TLSContext.client(trust: .pinned([other.fingerprint, facts.fingerprint]), alpn: Self.alpn)
        let pair = try TLSPair(client, old)
        pair.run()
        pair.expectSuccess()

        let strict = try TLSContext.client(trust: .pinned([facts.fingerprint]), alpn: Self.alpn)
        let refused = try TLSPair(strict, stranger)
        refused.run()
        #expect(refused.client.error?.reason.contains("\(other.fingerprint)") == true)
        let none = try TLSPair(TLSContext.client(trust: .pinned([]), alpn: Self.alpn), old)
        none.run()
        #expect(none.client.error != nil)
    }

    /// What was not accepted is named, so that a user can decide to.
    @Test func aRefusalNamesTheCertificate() throws {
        let server = try TLSSessionTests.server()
        let pair = try TLSPair(TLSContext.client(trust: .system, alpn: Self.alpn), server)
        pair.run()
        let fingerprint = try #require(server.certificateFacts?.fingerprint)
        #expect(pair.client.error?.reason.hasSuffix("it is \(fingerprint)") == true)
    }

    /// A server with the certificate and secret of the one before it resumes what that one began.
    @Test func ticketsOutliveTheServer() throws {
        let pem = try CertificatePEM(selfSignedFor: ["source.test"])
        func server(_ secret: UInt8?) throws -> TLSContext {
            let context = try TLSContext.server(pem, alpn: Self.alpn)
            if let secret { context.useTicketKeys(from: [UInt8](repeating: secret, count: 32)) }
            return context
        }
        let before = try server(1)
        let client = try TLSSessionTests.client(of: before)
        let first = try TLSPair(client, before)
        first.run()
        let ticket = try #require(first.client.tickets.first)
        for (secret, resumes) in [(1, true), (2, false), (nil, false)] as [(UInt8?, Bool)] {
            let second = try TLSPair(client, server(secret), resume: ticket)
            second.run()
            second.expectSuccess()
            #expect(second.client.session.isResumed == resumes)
        }
    }
}
