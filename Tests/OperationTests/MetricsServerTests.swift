import Reactor
import Testing
import Wire

@testable import Operation

/// The HTTP side of metrics; what is in them is looked at with Prometheus' own parser in DeploymentTests.
@Suite struct MetricsServerTests {
    private func answer(_ request: String) -> String? {
        HTTPRequest.answer(Array(request.utf8), limit: 8192) { path, query in
            path == "/metrics" ? MetricsPage(type: "text/plain", text: "up 1\n\(query)") : nil
        }.map { String(decoding: $0, as: UTF8.self) }
    }

    @Test func requestsAreAnswered() throws {
        let whole = try #require(answer("GET /metrics?a=b HTTP/1.1\r\nHost: x\r\n\r\n"))
        #expect(whole.hasPrefix("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n"))
        #expect(whole.contains("\r\nConnection: close\r\n") && whole.hasSuffix("\r\n\r\nup 1\na=b"))
        // HEAD: the same without the body.
        let head = try #require(answer("HEAD /metrics?a=b HTTP/1.1\r\n\r\n"))
        #expect(head == String(whole.dropLast(8)))
        #expect(answer("GET /metrics HTTP/1.0\r\n\r\n")?.hasSuffix("\r\n\r\nup 1\n") == true)
    }

    @Test(
        arguments: [
            ("GET / HTTP/1.1\r\n\r\n", "404"), ("GET /metrics/ HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "405"), ("GET /metrics\r\n\r\n", "400"),
            ("GET metrics HTTP/1.1\r\n\r\n", "400"), ("GET  /metrics HTTP/1.1\r\n\r\n", "400"),
            ("\r\n\r\n", "400"), ("\u{0}\u{1}\u{2}\r\n\r\n", "400"), ("GET /metrics HTTP/2\r\n\r\n", "400"),
            (String(repeating: "a", count: 8193), "431"),
            ("GET /metrics HTTP/1.1\r\nX: " + String(repeating: "a", count: 9000) + "\r\n\r\n", "431"),
        ])
    func othersAreRefused(request: String, status: String) {
        #expect(answer(request)?.hasPrefix("HTTP/1.1 \(status) ") == true, "\(request.prefix(40))")
    }

    @Test func anIncompleteHeadIsWaitedFor() {
        let whole = "GET /metrics HTTP/1.1\r\nHost: example.org\r\n\r\n"
        for count in 0..<whole.utf8.count {
            let part = Array(whole.utf8.prefix(count))
            #expect(HTTPRequest.answer(part, limit: 8192) { _, _ in nil } == nil)
        }
    }

    /// Octets of anything end in an answer or in waiting.
    @Test(arguments: 0..<20)
    func randomRequests(seed: Int) {
        var random = SeededRandom(seed: UInt64(seed))
        let alphabet = Array("GET HEAD/metrics?HTTP1.\r\n\u{0}\u{ff}".utf8) + [0xff, 0xc3]
        for _ in 0..<500 {
            var octets: [UInt8] = []
            for _ in 0..<Int(random.next() % 60) {
                octets.append(alphabet[Int(random.next() % UInt64(alphabet.count))])
            }
            if let answer = HTTPRequest.answer(octets + [13, 10, 13, 10], limit: 50, { _, _ in nil }) {
                #expect(answer.starts(with: Array("HTTP/1.1 4".utf8)))
            } else {
                Issue.record("no answer to \(octets)")
            }
        }
    }

    private func turns(_ reactor: Reactor, until done: () -> Bool) -> Bool {
        for _ in 0..<10_000 {
            if done() { return true }
            reactor.turn(timeout: .seconds(1))
        }
        return done()
    }

    /// More than the kernel's buffers take in one go.
    @Test func largePagesArriveWhole() throws {
        let reactor = try Reactor()
        defer { reactor.close() }
        let text = String(repeating: "0123456789abcdef", count: 1 << 19)
        let server = try MetricsServer(SocketAddress(.v4(0x7f00_0001), port: 0), reactor: reactor) { _, _ in
            MetricsPage(type: "text/plain", text: text)
        }
        let address = try #require(server.localAddress)
        var received: [UInt8] = []
        var isOver = false
        let client = try TCPRequest(Array("GET / HTTP/1.1\r\n\r\n".utf8), to: address, reactor: reactor) {
            received += $0
        } ended: {
            isOver = true
        }
        #expect(turns(reactor) { isOver })
        #expect(received.count > text.utf8.count && received.suffix(1 << 23).elementsEqual(text.utf8))
        #expect(server.served == 1)
        client.close()
    }

    /// Those who say nothing are bounded in number and in time, and others are served meanwhile.
    @Test func idleConnectionsAreBounded() throws {
        let reactor = try Reactor()
        defer { reactor.close() }
        let server = try MetricsServer(
            SocketAddress(.v4(0x7f00_0001), port: 0), reactor: reactor, patience: .milliseconds(500)
        ) { _, _ in MetricsPage(type: "text/plain", text: "x") }
        let address = try #require(server.localAddress)
        var ended = 0
        var answers = 0
        func client(_ request: String) throws -> TCPRequest {
            try TCPRequest(Array(request.utf8), to: address, reactor: reactor) { _ in
                answers += 1
            } ended: {
                ended += 1
            }
        }
        let idle = try (0..<15).map { try client("GET / HTTP/1.1\r\nX: \($0)") }
        let served = try client("GET / HTTP/1.1\r\n\r\n")
        #expect(turns(reactor) { ended == 1 } && answers == 1)
        let more = try (0..<5).map { _ in try client("GET /") }
        #expect(turns(reactor) { ended == 5 } && server.turnedAway == 4)
        // Then their time is up.
        #expect(turns(reactor) { ended == 21 } && answers == 1)
        let last = try client("GET / HTTP/1.1\r\n\r\n")
        #expect(turns(reactor) { ended == 22 } && answers == 2)
        for each in idle + more + [served, last] { each.close() }
    }

    @Test func logsOfOthersMakingAreBounded() {
        var budget = LogBudget()
        let start = Instant(nanoseconds: 0)
        let logged = (0..<1000).count { _ in budget.take(at: start) }
        #expect(logged == LogBudget.burst)
        let later = budget.take(at: start + .seconds(1))
        #expect(later && budget.untold == 1000 - LogBudget.burst)
        let tooSoon = budget.take(at: start + .milliseconds(1500))
        #expect(!tooSoon)
    }
}
