import Reactor
import System
import Testing
import Wire

@testable import Operation

/// Pages over HTTP; what is in them is looked at with Prometheus' own parser in DeploymentTests.
@Suite struct HTTPServerTests {
    /// A server on a loopback address with one page, and clients of it.
    private final class Stage {
        let reactor: Reactor
        let server: HTTPServer
        var page = "up 1\n"
        private var clients: [TCPRequest] = []

        final class Client {
            var received: [UInt8] = []
            var isOver = false
            var text: String { String(decoding: received, as: UTF8.self) }
        }

        init(_ limits: HTTPPages.Limits = .init(), io: Reactor.IO = .auto) throws {
            reactor = try Reactor(io: io)
            var page: (HTTPServer.Request) -> HTTPServer.Page? = { _ in nil }
            server = try HTTPServer(
                .address(SocketAddress(.v4(0x7f00_0001), port: 0)), reactor: reactor, limits: limits
            ) {
                page($0)
            }
            page = { [unowned self] request in
                guard request.path == "/metrics" else { return nil }
                return HTTPServer.Page(type: "text/plain", self.page + (request.from.map { "\($0)\n" } ?? ""))
            }
        }

        func ask(_ request: String) throws -> Client { try ask(Array(request.utf8)) }

        func ask(_ request: [UInt8]) throws -> Client {
            let client = Client()
            clients.append(
                try TCPRequest(request, to: server.localAddress, reactor: reactor) {
                    client.received += $0
                } ended: {
                    client.isOver = true
                })
            return client
        }

        func turn(until done: () -> Bool) -> Bool {
            for _ in 0..<10_000 {
                if done() { return true }
                reactor.turn(timeout: .seconds(1))
            }
            return done()
        }

        func end() {
            for client in clients { client.close() }
            server.close()
            reactor.close()
        }
    }

    private static let last = "Host: x\r\nConnection: close\r\n\r\n"

    /// The whole answer to a request, which asks for the end of the connection or gets it.
    private func answer(_ request: String) throws -> String {
        let stage = try Stage()
        defer { stage.end() }
        let client = try stage.ask(request)
        #expect(stage.turn { client.isOver }, "\(request.prefix(40))")
        return client.text
    }

    @Test func requestsAreAnswered() throws {
        let whole = try answer("GET /metrics?a=b&from=7 HTTP/1.1\r\n" + Self.last)
        #expect(whole.hasPrefix("HTTP/1.1 200 OK\r\n") && whole.hasSuffix("\r\n\r\nup 1\n7\n"))
        for line in ["Content-Type: text/plain", "Content-Length: 7", "Cache-Control: no-store"] {
            #expect(whole.contains("\r\n\(line)\r\n"), "\(line)")
        }
        // HEAD: the same without the body.
        let head = try answer("HEAD /metrics?from=7 HTTP/1.1\r\n" + Self.last)
        #expect(head.contains("\r\nContent-Length: 7\r\n") && head.hasSuffix("\r\n\r\n"))
        #expect(try answer("GET /metrics HTTP/1.0\r\n\r\n").hasSuffix("\r\n\r\nup 1\n"))
        // A body of a GET means nothing.
        let withBody = try answer("GET /metrics HTTP/1.1\r\nContent-Length: 3\r\n" + Self.last + "abc")
        #expect(withBody.hasSuffix("\r\n\r\nup 1\n"))
    }

    @Test(
        arguments: [
            ("GET / HTTP/1.1\r\n" + last, "404"), ("GET /metrics/ HTTP/1.1\r\n" + last, "404"),
            ("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n" + last, "405"),
            ("DELETE /metrics HTTP/1.1\r\n" + last, "405"),
            ("PUT /metrics HTTP/1.1\r\nContent-Length: 1000000\r\n" + last, "405"),
            // RFC 9112 section 3.2: a request of HTTP/1.1 without a Host is answered 400.
            ("GET /metrics HTTP/1.1\r\n\r\n", "400"), ("GET /metrics HTTP/2.0\r\n" + last, "505"),
            ("GET /metrics HTTP/1.1\r\nX: " + String(repeating: "a", count: 20_000) + "\r\n" + last, "431"),
            ("GET /" + String(repeating: "a", count: 20_000) + " HTTP/1.1\r\n" + last, "414"),
        ])
    func othersAreRefused(request: String, status: String) throws {
        #expect(try answer(request).hasPrefix("HTTP/1.1 \(status) "), "\(request.prefix(40))")
    }

    @Test func anIncompleteHeadIsWaitedFor() throws {
        let stage = try Stage()
        defer { stage.end() }
        let whole = "GET /metrics HTTP/1.1\r\nHost: example.org\r\n\r\n"
        let parts = try (0..<whole.utf8.count).filter { $0 % 5 == 0 }.map { try stage.ask(String(whole.prefix($0))) }
        let last = try stage.ask(whole)
        #expect(stage.turn { last.text.hasSuffix("up 1\n") })
        #expect(stage.server.asked == 1 && parts.allSatisfy { $0.received.isEmpty && !$0.isOver })
    }

    /// Octets of anything end in a refusal or a closed connection, and others are served.
    @Test(arguments: 0..<5)
    func randomRequests(seed: Int) throws {
        var limits = HTTPPages.Limits()
        limits.patience = .milliseconds(50)
        let stage = try Stage(limits)
        defer { stage.end() }
        var random = SeededRandom(seed: UInt64(seed))
        let alphabet = Array("GET HEAD/metrics?HTTP1.\r\n\u{0}".utf8) + [0xff, 0xc3]
        for _ in 0..<40 {
            var octets: [UInt8] = []
            for _ in 0..<Int(random.next() % 60) {
                octets.append(alphabet[Int(random.next() % UInt64(alphabet.count))])
            }
            let client = try stage.ask(octets + [13, 10, 13, 10])
            #expect(stage.turn { client.isOver })
            #expect(client.received.isEmpty || client.text.hasPrefix("HTTP/1.1 4"), "\(octets)")
        }
        let last = try stage.ask("GET /metrics HTTP/1.1\r\n" + Self.last)
        #expect(stage.turn { last.isOver } && last.text.hasSuffix("up 1\n"))
    }

    /// More than the kernel's buffers take in one go.
    @Test(arguments: [Reactor.IO.epoll, .ioUring])
    func largePagesArriveWhole(io: Reactor.IO) throws {
        let stage = try Stage(io: io)
        defer { stage.end() }
        stage.page = String(repeating: "0123456789abcdef", count: 1 << 19)
        let client = try stage.ask("GET /metrics HTTP/1.1\r\n" + Self.last)
        #expect(stage.turn { client.isOver })
        #expect(client.received.count > 1 << 23 && client.received.suffix(1 << 23).elementsEqual(stage.page.utf8))
    }

    /// Those who say nothing, or too little, are bounded in number and in time, and others are served meanwhile.
    @Test(arguments: [Reactor.IO.epoll, .ioUring])
    func idleConnectionsAreBounded(io: Reactor.IO) throws {
        var limits = HTTPPages.Limits()
        limits.patience = .milliseconds(500)
        let stage = try Stage(limits, io: io)
        defer { stage.end() }
        let near = limits.connectionsPerAddress
        let idle = try (1..<near).map { try stage.ask("GET /metrics HTTP/1.1\r\nX: \($0)") }
        let served = try stage.ask("GET /metrics HTTP/1.1\r\n" + Self.last)
        #expect(stage.turn { served.isOver } && served.text.hasSuffix("up 1\n"))
        let more = try (0..<5).map { _ in try stage.ask("GET /") }
        #expect(stage.turn { more.count { $0.isOver } == 4 } && stage.server.turnedAway == 4)
        #expect(idle.allSatisfy { !$0.isOver })
        // Then their time is up.
        #expect(stage.turn { (idle + more).allSatisfy { $0.isOver } })
        #expect(stage.server.givenUp == UInt64(near) && (idle + more).allSatisfy { $0.received.isEmpty })
        let last = try stage.ask("GET /metrics HTTP/1.1\r\n" + Self.last)
        #expect(stage.turn { last.isOver } && last.text.hasSuffix("up 1\n"))
    }

    /// Pages that take long to make are fewer.
    @Test func largePagesCountMore() throws {
        let stage = try Stage()
        defer { stage.end() }
        stage.page = String(repeating: "x", count: 20 * HTTPServer.octetsOfOne)
        let client = try stage.ask(String(repeating: "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", count: 300))
        #expect(stage.turn { client.isOver })
        #expect(client.text.hasPrefix("HTTP/1.1 200 ") && stage.server.refused == 1)
        #expect(stage.server.asked >= 10 && stage.server.asked < 100)
    }

    /// Who does not take the answer is given up too, and its place is free again.
    @Test func aReaderThatStopsIsGivenUp() throws {
        var limits = HTTPPages.Limits()
        limits.connections = 1
        limits.patience = .milliseconds(500)
        let stage = try Stage(limits)
        defer { stage.end() }
        stage.page = String(repeating: "0123456789abcdef", count: 1 << 21)
        // On a reactor that takes no turn when the request is away.
        let other = try Reactor()
        defer { other.close() }
        var received = 0
        let request = "GET /metrics HTTP/1.1\r\n" + Self.last
        let slow = try TCPRequest(Array(request.utf8), to: stage.server.localAddress, reactor: other) {
            received += $0.count
        } ended: {
        }
        defer { slow.close() }
        for _ in 0..<1000 where stage.server.asked == 0 {
            other.turn(timeout: .milliseconds(10))
            stage.reactor.turn(timeout: .milliseconds(10))
        }
        #expect(stage.turn { stage.server.givenUp == 1 } && received < stage.page.utf8.count)
        stage.page = "up 1\n"
        var last = try stage.ask("GET /metrics HTTP/1.1\r\n" + Self.last)
        #expect(stage.turn { last.isOver })
        // It may have come before the place was free.
        if last.received.isEmpty {
            last = try stage.ask("GET /metrics HTTP/1.1\r\n" + Self.last)
            #expect(stage.turn { last.isOver })
        }
        #expect(last.text.hasSuffix("up 1\n"))
    }

    /// Connections of all addresses together have a limit too.
    @Test func connectionsAreBounded() throws {
        var limits = HTTPPages.Limits()
        limits.connections = 3
        let stage = try Stage(limits)
        defer { stage.end() }
        let clients = try (0..<5).map { _ in try stage.ask("GET /") }
        #expect(stage.turn { clients.count { $0.isOver } == 2 } && stage.server.turnedAway == 2)
    }

    /// A client that sends requests without end does not make pages without end, on one connection or on many.
    @Test func requestsAreBoundedInNumber() throws {
        let stage = try Stage()
        defer { stage.end() }
        let request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
        let client = try stage.ask(String(repeating: request, count: 1000))
        #expect(stage.turn { client.isOver })
        // The first refusal closes the connection; with requests unread, TCP may throw away the end of what was said.
        #expect(client.text.hasPrefix("HTTP/1.1 200 ") && stage.server.refused == 1)
        #expect(stage.server.asked >= 200 && stage.server.asked < 1000)
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
