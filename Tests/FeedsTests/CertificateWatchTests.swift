import Cryptography
import Testing

@testable import Feeds

@Suite struct CertificateWatchTests {
    @Test func datesAreToldInTime() throws {
        let context = try TLSContext.server(selfSignedFor: ["a.test"], alpn: ["x"])
        var facts = try #require(context.certificateFacts)
        (facts.validFrom, facts.validUntil) = (1_000_000_000, 1_100_000_000)
        func problem(_ seconds: Int64) -> String? { CertificateWatch.problem(facts, at: seconds) }
        #expect(problem(999_999_999) == "the certificate is not valid before 2001-09-09T01:46:40Z")
        #expect(problem(1_000_000_000) == nil)
        #expect(problem(1_100_000_000 - CertificateWatch.warning - 1) == nil)
        #expect(problem(1_100_000_000 - CertificateWatch.warning)?.contains("expires at 2004-11-09T11:33:20Z") == true)
        #expect(problem(1_099_999_999)?.contains("expires at") == true)
        #expect(problem(1_100_000_000)?.contains("has expired") == true)
    }
}
