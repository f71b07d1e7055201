import Foundation
import QUIC
import Testing

@testable import Cryptography

@Suite struct TLSContextTests {
    func message(_ body: () throws -> TLSContext) -> String {
        do {
            _ = try body()
            return "no error"
        } catch {
            return "\(error)"
        }
    }

    @Test func errorsNameTheFile() throws {
        try TestCertificates.withDirectory { directory in
            let certificate = try TestCertificates.write(TestCertificates.certificate, "c.pem", in: directory)
            let key = try TestCertificates.write(TestCertificates.key, "k.pem", in: directory)
            let other = try TestCertificates.write(TestCertificates.otherKey, "other.pem", in: directory)
            let junk = try TestCertificates.write("not PEM", "junk.pem", in: directory)
            let missing = directory + "/missing.pem"
            func server(_ certificate: String, _ key: String) -> String {
                message { try .server(certificateFile: certificate, keyFile: key, alpn: ["x"]) }
            }
            #expect(server(certificate, key) == "no error")
            #expect(server(missing, key) == "cannot use certificate file \(missing): No such file or directory")
            #expect(server(certificate, missing) == "cannot use key file \(missing): No such file or directory")
            #expect(
                server(certificate, other) == "key file \(other) does not belong to certificate file \(certificate)")
            #expect(server(junk, key).hasPrefix("cannot use certificate file \(junk): "))
            #expect(server(certificate, junk).hasPrefix("cannot use key file \(junk): "))
            #expect(
                message { try .client(trust: .file(missing), alpn: ["x"]) }
                    == "cannot use trust file \(missing): No such file or directory")
            #expect(
                message { try .client(trust: .file(junk), alpn: ["x"]) }.hasPrefix("cannot use trust file \(junk): "))
            #expect(
                message { try .client(trust: .none, alpn: ["x"], keyLog: directory + "/no/log") }
                    .hasPrefix("cannot append to key log file \(directory)/no/log: "))
        }
    }

    @Test func argumentsAreChecked() {
        #expect(message { try .client(trust: .none, alpn: []) } != "no error")
        #expect(message { try .client(trust: .none, alpn: [""]) } != "no error")
        #expect(message { try .client(trust: .none, alpn: ["x"], suites: []) } != "no error")
        #expect(message { try .server(selfSignedFor: [], alpn: ["x"]) } != "no error")
        #expect(message { try .server(selfSignedFor: ["a,DNS:b"], alpn: ["x"]) } != "no error")
        #expect(message { try .server(selfSignedFor: ["a.test", "*.b.test", "::1"], alpn: ["x"]) } == "no error")
    }

    @Test func selfSignedCertificatesDiffer() throws {
        let one = try TLSContext.server(selfSignedFor: ["a.test"], alpn: ["x"])
        let two = try TLSContext.server(selfSignedFor: ["a.test"], alpn: ["x"])
        #expect(one.certificatePEM.hasPrefix("-----BEGIN CERTIFICATE-----\n"))
        #expect(one.certificatePEM != two.certificatePEM)
    }

    @Test func keyLogHasTheSecrets() throws {
        try TestCertificates.withDirectory { directory in
            let path = directory + "/keys.log"
            try "# kept\n".write(toFile: path, atomically: true, encoding: .utf8)
            let server = try TLSContext.server(selfSignedFor: ["a.test"], alpn: ["x"])
            let client = try TLSContext.client(trust: .none, alpn: ["x"], keyLog: path)
            let pair = try TLSPair(client, server)
            pair.run()
            pair.expectSuccess()
            let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
            #expect(lines.first == "# kept")
            for (label, end) in [
                ("CLIENT_HANDSHAKE_TRAFFIC_SECRET", "handshake write"),
                ("SERVER_HANDSHAKE_TRAFFIC_SECRET", "handshake read"),
                ("CLIENT_TRAFFIC_SECRET_0", "application write"), ("SERVER_TRAFFIC_SECRET_0", "application read"),
            ] {
                let fields = lines.first { $0.hasPrefix(label + " ") }?.split(separator: " ") ?? []
                #expect(fields.count == 3 && fields[1].count == 64)
                #expect(fields.last.map { hex(String($0)) } == pair.client.secrets[end])
            }
            client.logFlowSecret([0xa, 0xbc], of: ConnectionID([1, 0xff])!, suite: .chaCha20Poly1305)
            let all = try String(contentsOfFile: path, encoding: .utf8)
            #expect(all.hasSuffix("\nFLEXICAST_FLOW_SECRET_1303 01ff 0abc\n"))
        }
    }
}
