import Foundation
import FoundationXML
import Measurement
import Operation
import TestSupport
import Testing

@testable import flexicast

@Suite("flexicast perf") struct PerfTests {
    /// Each refusal exits with 64 and names what would be accepted.
    @Test(arguments: [
        (["perf", "send"], "Missing expected argument '<addr:port>'"),
        (["perf", "send", "127.0.0.1"], "write ADDRESS:PORT"),
        (["perf", "send", "127.0.0.1:0"], "write ADDRESS:PORT"),
        (["perf", "send", "127.0.0.1:5", "--size", "31"], "from 32 to 65507"),
        (["perf", "receive"], "Missing expected argument '--listen"),
        (["perf", "fanout", "--receivers", "1,,2"], "several with commas"),
        (["perf", "fanout", "--receivers", "0"], "from 1 to 10000"),
        (["perf", "fanout", "--way", "carrier"], "'flow', 'replicated' or 'unicast'"),
        (["perf", "crypto", "--size", "63"], "from 64 to 9000"),
        (["perf", "flow", "--least", "many"], "such as 500k"),
        (["perf", "relay", "--cpu=-1"], "from 0 to 1023"),
        (["perf", "serve", "--listen", ":1", "--key", "k"], "go together"),
        (["perf", "flow", "--plot", "/no/such/place/sweep"], "there is no directory /no/such/place"),
        (["perf", "fanout", "--aead", "rot13"], "'auto', 'openssl' or 'ipsec-mb'"),
        (["perf", "fanout", "--size", "1199"], "from 1200 to 8972"),
    ])
    func refusalsSayWhatWouldBeAccepted(arguments: [String], text: String) {
        do {
            _ = try Flexicast.parseAsRoot(arguments)
            Issue.record("accepted")
        } catch {
            #expect(Flexicast.exitCode(for: error).rawValue == 64)
            let message = Flexicast.fullMessage(for: error)
            #expect(message.contains(text), "\(message)")
        }
    }

    @Test func sweepsAndCounts() throws {
        #expect(try parseIntegers(in: 1...1000, "receivers")("1,10,100,1000") == [1, 10, 100, 1000])
        #expect(try parseCount("1.5M") == 1_500_000)
        #expect(try parseCount("20000") == 20_000)
        #expect(median([3, 1, 2]) == 2)
        #expect(median([4, 1, 2, 3]) == 2.5)
    }

    /// The summary of an end has the names that scripts read, and quotients of its counts.
    @Test func summaryIsJSONWithQuotients() throws {
        var counts = EndCounts()
        counts.time = 2_000_000_000
        counts.cpu = 1_000_000_000
        counts.packets = 1000
        counts.octets = 1_200_000
        counts.systemCalls = 20
        counts.messages = 25
        counts.measured = 400
        counts.inputOutput = 100
        counts.cryptography = 200
        counts.refusals.tooLarge = 3
        counts.refusals.noBuffers = 4
        let line = PerfEndReport(messages: "sends", setting: [("kernel", .text("a \"b\""))]).summary(counts)
        let object = try #require(
            try JSONSerialization.jsonObject(with: Data(line.json.utf8)) as? [String: Any])
        #expect(object["packets_per_s"] as? Double == 500)
        #expect(object["packets_per_cpu_s"] as? Double == 1000)
        #expect(object["bits_per_s"] as? Double == 4_800_000)
        #expect(object["cpu_ns_per_packet"] as? Double == 1_000_000)
        #expect(object["system_calls_per_packet"] as? Double == 0.02)
        #expect(object["packets_per_send"] as? Double == 40)
        #expect(object["io_ns_per_packet"] as? Double == 250_000)
        #expect(object["crypto_ns_per_packet"] as? Double == 500_000)
        #expect(object["protocol_ns_per_packet"] as? Double == 250_000)
        #expect(object["send_refused"] as? Int == 7)
        #expect(object["send_refused_too_large"] as? Int == 3)
        #expect(object["kernel"] as? String == "a \"b\"")
    }

    /// What every result says, whatever was measured, by the names that scripts read.
    private static let promised = [
        "mode", "packets_per_s", "bits_per_s", "cpu_ns_per_packet", "protocol_ns_per_packet", "crypto_ns_per_packet",
        "io_ns_per_packet", "system_calls_per_packet", "turns", "longest_turn_us", "kernel_drops", "send_blocked",
        "send_refused", "send_refused_too_large", "send_refused_unreachable", "send_refused_forbidden",
        "send_refused_no_buffers", "send_refused_other", "backend", "offloads", "kernel", "cpu",
    ]

    @Test(arguments: [
        (
            ["flow", "--heard", "--packets", "20000", "--group", "239.10.0.6:5990"],
            [
                "aead", "packets_per_send", "receiver_packets_per_receive",
                "receiver_cpu_ns_per_packet", "receiver_crypto_ns_per_packet", "overhead_octets_per_packet",
                "zero_copy",
            ]
        ),
        (
            ["fanout", "--receivers", "1", "--way", "unicast", "--no-memory", "--packets", "2000"],
            [
                "aead", "packets_per_send",
                "packets_delivered_per_s", "bits_delivered_per_s", "receiver_packets_per_receive",
                "receiver_cpu_ns_per_packet",
            ]
        ),
        (
            ["relay", "--receivers", "1", "--plain", "--packets", "5000"],
            [
                "aead", "packets_per_send", "receiver_packets_per_receive",
                "source_cpu_ns_per_packet", "drops_queue_full",
            ]
        ),
        (["crypto", "--suite", "aes-128-gcm"], ["aead", "packets_per_send"]),
        (["handshake"], ["aead", "packets_per_send", "packets_per_handshake"]),
    ])
    func everyResultSaysWhatIsPromised(arguments: [String], more: [String]) throws {
        let (status, output, errors) = try run(
            Self.program, ["perf"] + arguments + ["--duration", "1500ms", "--json"])
        #expect(status == 0, "\(errors)")
        var results = 0
        for line in output.split(separator: "\n") {
            let object = try #require(
                try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any], "\(line)")
            guard object["event"] as? String == "summary" else { continue }
            results += 1
            for name in Self.promised + more { #expect(object[name] != nil, "\(name) is missing: \(line)") }
            #expect(object["packets_per_s"] as? Double ?? 0 > 0)
        }
        #expect(results > 0)
        // What names the machine and its ways is there for people, too.
        let text = try run(Self.program, ["perf"] + arguments + ["--duration", "1500ms"]).output
        for name in ["backend", "offloads", "kernel", "cpu"] { #expect(text.contains("\(name): "), "\(text)") }
    }

    /// The one that is built with the tests.
    private static let program = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        .deletingLastPathComponent().appending(path: "flexicast").path

    /// On a logarithmic axis each factor of ten is as wide as the next.
    @Test func sweepsAreDrawnByFactors() throws {
        let chart = Chart(
            title: "t", xLabel: "x", yLabel: "y",
            curves: [.init(name: "a", color: "red", points: [(1, 1), (10, 2), (100, 3)])], isLogarithmic: true)
        let document = try XMLDocument(data: Data(chart.svg.utf8))
        let marks = try document.nodes(forXPath: "//*[local-name()='circle']/@cx").compactMap {
            $0.stringValue.flatMap { Double($0) }
        }
        #expect(marks.count == 3)
        #expect(abs((marks[1] - marks[0]) - (marks[2] - marks[1])) < 0.2)
        // No curve goes through the legend, of one line of twenty that ends at 70.
        for height in try document.nodes(forXPath: "//*[local-name()='circle']/@cy") {
            #expect(Double(height.stringValue ?? "") ?? 0 >= 70)
        }
    }

    /// What Perf/compare judges by: pairs, base and head.
    @Test(arguments: [
        // Three per cent more in every pair, whatever the machine's pace: slower, faster when more is better.
        ((1...12).map { ("\($0 * 100)", "\($0 * 103)") }, "more", 2 as Int32, "SLOWER"),
        ((1...12).map { ("\($0 * 100)", "\($0 * 103)") }, "less", 0, "faster"),
        // Half a per cent is under the floor, however sure it is.
        ((1...12).map { ("\($0 * 1000)", "\($0 * 1005)") }, "more", 0, "no difference"),
        // As often up as down.
        ((1...12).map { ("100", $0 % 2 == 0 ? "110" : "91") }, "more", 0, "no difference"),
    ])
    func revisionsAreRanked(pairs: [(String, String)], worse: String, status: Int32, verdict: String) throws {
        let process = Process()
        process.executableURL = Machine.root.appending(path: "Perf/rank")
        process.arguments = [worse]
        let (input, output) = (Pipe(), Pipe())
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        try input.fileHandleForWriting.write(contentsOf: Data(pairs.map { "\($0) \($1)\n" }.joined().utf8))
        try input.fileHandleForWriting.close()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(process.terminationStatus == status)
        #expect(text.contains(verdict), "\(text)")
    }
}
