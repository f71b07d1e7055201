import Cryptography
import Foundation
import QUIC
import TestSupport
import Testing
import Wire

@Suite(
    "aioquic agrees with us", .serialized,
    .enabled(if: Machine.hasAioquic, "aioquic is missing: make test installs it into .build/venv"))
struct AioquicTests {
    static let size = 10_000_000

    struct Report: Decodable {
        var bytes: Int
        var sha256: String
        var answer: String
        var resumed: Bool
        var retried: Bool
        var phase: Int
        var cipher: String
    }

    /// aioquic as client against our server.
    private func client(_ server: TransferServer, _ arguments: [String]) throws -> Report {
        let result = try run(
            Machine.python,
            [
                Machine.peers.appending(path: "aioquic_peer.py").path, "client", "--port", "\(server.port)", "--ca",
                server.certificate.path,
            ]
                + arguments)
        guard result.status == 0 else { throw Failure(description: result.errors) }
        return try JSONDecoder().decode(Report.self, from: Data(result.output.utf8))
    }

    private func expectPattern(_ report: Report, _ size: Int = size) {
        #expect(report.bytes == size)
        #expect(report.sha256 == "\(SHA256Digest(of: pattern(size)))")
    }

    @Test func downloadsTenMegabytes() throws {
        let report = try client(try TransferServer(), ["--size", "\(Self.size)"])
        expectPattern(report)
        #expect(!report.retried && !report.resumed)
    }

    @Test func uploadsTenMegabytes() throws {
        let report = try client(try TransferServer(), ["--size", "\(Self.size)", "--put"])
        #expect(report.answer == "\(Self.size) \(SHA256Digest(of: pattern(Self.size)))")
    }

    @Test func answersARetry() throws {
        var options = TransferServer.Options()
        options.retry = true
        let report = try client(try TransferServer(options), ["--size", "1000"])
        expectPattern(report, 1000)
        #expect(report.retried)
    }

    @Test func resumesASession() throws {
        let report = try client(try TransferServer(), ["--size", "1000", "--resume"])
        expectPattern(report, 1000)
        #expect(report.resumed)
    }

    @Test func updatesItsKeys() throws {
        let report = try client(try TransferServer(), ["--size", "100000", "--key-update"])
        expectPattern(report, 100_000)
        #expect(report.phase == 1)
    }

    /// The client's port changes under it, as behind a NAT; nothing goes to the old one any more.
    @Test func isFollowedToAnotherPort() throws {
        let report = try client(try TransferServer(), ["--size", "3000000", "--rebind"])
        expectPattern(report, 3_000_000)
    }

    @Test func survivesFivePerCentLoss() throws {
        let report = try client(try TransferServer(), ["--size", "\(Self.size)", "--loss", "0.05"])
        expectPattern(report)
    }

    @Test(arguments: ["CHACHA20_POLY1305_SHA256", "AES_128_GCM_SHA256", "AES_256_GCM_SHA384"])
    func everySuite(_ cipher: String) throws {
        let report = try client(try TransferServer(), ["--size", "100000", "--cipher", cipher])
        expectPattern(report, 100_000)
        #expect(report.cipher == cipher)
    }

    // MARK: aioquic as server against our client

    private func server(
        _ arguments: [String] = [], names: [String] = ["localhost"]
    ) throws -> (RunningServer, URL, TemporaryDirectory) {
        let directory = try TemporaryDirectory()
        let key = directory.url.appending(path: "key.pem")
        let certificate = directory.url.appending(path: "cert.pem")
        let made = try run(
            Machine.path(of: "openssl") ?? "openssl",
            [
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-keyout",
                key.path, "-out", certificate.path, "-subj", "/CN=localhost", "-addext",
                "subjectAltName=" + names.map { "DNS:" + $0 }.joined(separator: ","),
            ])
        guard made.status == 0 else { throw Failure(description: made.errors) }
        let running = try RunningServer(
            Machine.python,
            [
                Machine.peers.appending(path: "aioquic_peer.py").path, "server", "--cert", certificate.path, "--key",
                key.path,
            ] + arguments)
        return (running, certificate, directory)
    }

    private func get(_ size: Int) -> [UInt8] { Array("GET \(size)".utf8) }

    @Test(arguments: [[], ["--retry"], ["--loss", "0.05"]])
    func servesTenMegabytes(_ arguments: [String]) throws {
        let (running, certificate, directory) = try server(arguments)
        let result = try TransferClient.exchange(get(Self.size), port: running.port, trust: certificate)
        #expect(result.isFinished)
        #expect(result.answer == pattern(Self.size))
        withExtendedLifetime(directory) {}
    }

    /// A flight that is longer than an address which is not proven may be sent (RFC 9000 section 8.1).
    @Test(arguments: [70, 200]) func hasALongChain(_ names: Int) throws {
        let (running, certificate, directory) = try server(
            names: ["localhost"] + (0..<names).map { String(repeating: "n", count: 50) + "\($0).test" })
        let result = try TransferClient.exchange(get(1000), port: running.port, trust: certificate)
        #expect(result.answer == pattern(1000))
        withExtendedLifetime(directory) {}
    }

    @Test func takesAnUpload() throws {
        let (running, certificate, directory) = try server()
        let body = pattern(Self.size)
        let result = try TransferClient.exchange(
            Array("PUT".utf8) + body, port: running.port, trust: certificate)
        #expect(String(decoding: result.answer, as: UTF8.self) == "\(body.count) \(SHA256Digest(of: body))")
        withExtendedLifetime(directory) {}
    }

    @Test func resumesOurSession() throws {
        let (running, certificate, directory) = try server()
        let first = try TransferClient.exchange(get(1000), port: running.port, trust: certificate)
        #expect(!first.isResumed && first.ticket != nil)
        var options = TransferClient.Options()
        options.ticket = first.ticket
        let second = try TransferClient.exchange(get(1000), port: running.port, trust: certificate, options)
        #expect(second.isResumed)
        #expect(second.answer == pattern(1000))
        withExtendedLifetime(directory) {}
    }

    @Test func followsOurKeyUpdate() throws {
        let (running, certificate, directory) = try server()
        var options = TransferClient.Options()
        options.updatesKeys = true
        let result = try TransferClient.exchange(get(1_000_000), port: running.port, trust: certificate, options)
        #expect(result.keyGeneration == 1)
        #expect(result.answer == pattern(1_000_000))
        withExtendedLifetime(directory) {}
    }

    @Test func speaksChaCha20() throws {
        let (running, certificate, directory) = try server(["--cipher", "CHACHA20_POLY1305_SHA256"])
        let result = try TransferClient.exchange(get(100_000), port: running.port, trust: certificate)
        #expect(result.suite == .chaCha20Poly1305)
        #expect(result.answer == pattern(100_000))
        withExtendedLifetime(directory) {}
    }
}
