import Logging
import Reactor
import Wire

/// What a page of a metrics server holds.
package struct MetricsPage {
    package var type: String
    package var text: String

    /// Text for Prometheus.
    package static func metrics(_ text: MetricsText) -> MetricsPage {
        MetricsPage(type: "text/plain; version=0.0.4; charset=utf-8", text: text.text)
    }

    /// Where a listing is to go on, by the query `from=N`; 0 without one.
    package static func start(in query: Substring) -> Int {
        query.split(separator: "&").compactMap { $0.hasPrefix("from=") ? Int($0.dropFirst(5)) : nil }.first ?? 0
    }

    package static func json(_ text: String) -> MetricsPage { MetricsPage(type: "application/json", text: text + "\n") }
}

/// Serves a few pages over HTTP/1.1 (RFC 9112): one GET or HEAD per connection, without a body, answered at once.
package final class MetricsServer {
    /// Connections at once, and octets of a request.
    package static let connectionLimit = 16
    package static let requestLimit = 8192

    package var localAddress: SocketAddress? { listener?.localAddress }
    /// Requests answered, and connections turned away because there were too many.
    package private(set) var served: UInt64 = 0
    package private(set) var turnedAway: UInt64 = 0

    private final class Visit {
        let connection: TCPConnection
        var request: [UInt8] = []
        var timer: TimerHandle?

        init(_ connection: TCPConnection) { self.connection = connection }
    }

    private var listener: TCPListener?
    private var visits: [ObjectIdentifier: Visit] = [:]
    private let page: (_ path: Substring, _ query: Substring) -> MetricsPage?
    private let patience: Duration
    private unowned let reactor: Reactor

    /// - Parameters:
    ///   - patience: how long a connection may take.
    ///   - page: the page at a path, or nil when there is none.
    /// - Throws: `ReactorError` when the address cannot be had.
    package init(
        _ address: SocketAddress, reactor: Reactor, patience: Duration = .seconds(10),
        page: @escaping (_ path: Substring, _ query: Substring) -> MetricsPage?
    ) throws(ReactorError) {
        self.reactor = reactor
        self.patience = patience
        self.page = page
        listener = try TCPListener(bind: address, reactor: reactor) { [unowned self] in accept($0) }
    }

    package func close() {
        listener = nil
        visits = [:]
    }

    private func accept(_ connection: TCPConnection) {
        guard visits.count < Self.connectionLimit else {
            turnedAway += 1
            return
        }
        let visit = Visit(connection)
        let name = ObjectIdentifier(visit)
        visits[name] = visit
        visit.timer = reactor.timer(at: reactor.now + patience) { [unowned self] in visits[name] = nil }
        connection.received = { [unowned self, unowned visit] octets in
            if let octets {
                take(octets, visit)
            } else {
                visits[name] = nil
            }
        }
    }

    private func take(_ octets: [UInt8], _ visit: Visit) {
        visit.request += octets
        guard let answer = HTTPRequest.answer(visit.request, limit: Self.requestLimit, page) else { return }
        served += 1
        visit.connection.sendLast(answer)
    }
}

/// The little of HTTP/1.1 that a metrics server needs.
package enum HTTPRequest {
    /// The answer to a request; nil as long as its head is not complete.
    package static func answer(
        _ octets: [UInt8], limit: Int, _ page: (Substring, Substring) -> MetricsPage?
    ) -> [UInt8]? {
        guard let end = octets.headEnd else {
            return octets.count > limit ? response("431 Request Header Fields Too Large") : nil
        }
        guard end <= limit else { return response("431 Request Header Fields Too Large") }
        let head = String(decoding: octets[..<end], as: UTF8.self)
        let line = head.prefix { $0 != "\r\n" && $0 != "\n" && $0 != "\r" }
        let parts = line.split(separator: " ", omittingEmptySubsequences: false)
        guard parts.count == 3, parts[2].hasPrefix("HTTP/1."), parts[1].hasPrefix("/") else {
            return response("400 Bad Request")
        }
        guard parts[0] == "GET" || parts[0] == "HEAD" else {
            return response("405 Method Not Allowed", more: "Allow: GET, HEAD\r\n")
        }
        let target = parts[1].split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        guard let found = page(target[0], target.count > 1 ? target[1] : "") else { return response("404 Not Found") }
        return response("200 OK", found, withBody: parts[0] == "GET")
    }

    private static func response(
        _ status: String, _ page: MetricsPage? = nil, withBody: Bool = true, more: String = ""
    ) -> [UInt8] {
        let page = page ?? MetricsPage(type: "text/plain; charset=utf-8", text: status + "\n")
        let head = """
            HTTP/1.1 \(status)\r
            Content-Type: \(page.type)\r
            Content-Length: \(page.text.utf8.count)\r
            Cache-Control: no-store\r
            Connection: close\r
            \(more)\r

            """
        return Array((withBody ? head + page.text : head).utf8)
    }
}

extension [UInt8] {
    /// Where the empty line is that ends a head.
    fileprivate var headEnd: Int? {
        guard count >= 4 else { return nil }
        for index in 0...(count - 4)
        where self[index] == 13 && self[index + 1] == 10 && self[index + 2] == 13 && self[index + 3] == 10 {
            return index
        }
        return nil
    }
}
