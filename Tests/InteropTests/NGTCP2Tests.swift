import Foundation
import QUIC
import TestSupport
import Testing

@Suite(
    "ngtcp2 agrees with us", .serialized,
    .enabled(if: Machine.has("gtlsclient"), "missing: apt-get install ngtcp2-client"))
struct NGTCP2Tests {
    /// ngtcp2's client downloads `/size` over HTTP/3. Its exit status says nothing, so the file is what counts.
    private func download(_ size: Int, _ server: TransferServer, _ arguments: [String] = []) throws -> [UInt8] {
        let directory = try TemporaryDirectory()
        let result = try run(
            Machine.path(of: "gtlsclient") ?? "gtlsclient",
            [
                "-q", "--exit-on-all-streams-close", "--no-quic-dump", "--no-http-dump",
                "--download=\(directory.url.path)",
            ] + arguments + ["127.0.0.1", "\(server.port)", "https://localhost:\(server.port)/\(size)"])
        guard let data = try? Data(contentsOf: directory.url.appending(path: "\(size)")) else {
            throw Failure(description: "nothing was downloaded: \(result.errors.suffix(1000))")
        }
        return Array(data)
    }

    @Test func downloadsTenMegabytes() throws {
        #expect(try download(10_000_000, try TransferServer()) == pattern(10_000_000))
    }

    @Test func answersARetry() throws {
        var options = TransferServer.Options()
        options.retry = true
        #expect(try download(1000, try TransferServer(options)) == pattern(1000))
    }

    @Test func survivesLoss() throws {
        #expect(
            try download(1_000_000, try TransferServer(), ["--tx-loss=0.05", "--rx-loss=0.05"]) == pattern(1_000_000))
    }

    @Test func updatesItsKeys() throws {
        #expect(try download(1_000_000, try TransferServer(), ["--key-update=10ms"]) == pattern(1_000_000))
    }

    @Test func migrates() throws {
        #expect(try download(3_000_000, try TransferServer(), ["--change-local-addr=20ms"]) == pattern(3_000_000))
    }
}
