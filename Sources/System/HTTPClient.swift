import CShims
import Glibc

/// Gets documents over http and https with libcurl, one at a time. Follows no redirect.
@safe package final class HTTPClient: @unchecked Sendable {
    package struct Request: Sendable {
        /// Without user information.
        package var url: String
        /// Whole lines. A line with a line break or a NUL in it is left out.
        package var headers: [String]
        /// The longest body, in octets when decoded.
        package var limit: Int
        /// From the start to the last octet.
        package var timeout: Duration

        package init(url: String, headers: [String], limit: Int, timeout: Duration) {
            self.url = url
            self.headers = headers
            self.limit = limit
            self.timeout = timeout
        }
    }

    package struct Answer: Sendable {
        package var status = 0
        /// Only of status 200.
        package var body: [UInt8] = []
        /// Where a redirect leads, with any user information that the server put there.
        package var location: String?
        package var etag: String?
        package var lastModified: String?
        package var contentType: String?
        package var retryAfter: String?
    }

    package enum Failure: Error, Sendable {
        case stopped
        case timedOut(reason: String)
        /// - Parameter announced: the size that the server gave, if it did.
        case tooLarge(announced: Int?)
        case failed(reason: String)
    }

    /// The longest that a connection may take to come up.
    package static let connectTimeout = Duration.seconds(20)

    private let handle: OpaquePointer

    package init(userAgent: String) {
        guard let made = unsafe fc_http_open(userAgent) else { fatalError("no memory for an HTTP client") }
        unsafe handle = made
    }

    deinit { unsafe fc_http_close(handle) }

    /// Makes a waiting `get` return at once, and every later one. From any thread.
    package func stop() { unsafe fc_http_stop(handle) }

    /// Asks once, and waits for the answer. Not to be called by two threads at a time.
    package func get(_ request: Request) throws(Failure) -> Answer {
        let lines = request.headers.filter { line in !line.utf8.contains { $0 == 0 || $0 == 10 || $0 == 13 } }
        var headers = unsafe lines.map { unsafe strdup($0) } + [nil]
        defer { unsafe headers.forEach { unsafe free($0) } }
        var answer = unsafe fc_http_answer()
        // Less than a millisecond would mean no limit.
        let milliseconds = max(1, Int64(request.timeout / .milliseconds(1)))
        unsafe fc_http_get(
            handle, request.url, &headers, max(0, request.limit), milliseconds,
            min(milliseconds, Int64(Self.connectTimeout / .milliseconds(1))), &answer)
        let reason = unsafe Self.text(answer.text) ?? ""
        switch unsafe Int(answer.outcome) {
        case FC_HTTP_ANSWERED: return unsafe Self.copy(answer)
        case FC_HTTP_STOPPED: throw .stopped
        case FC_HTTP_TIMED_OUT: throw .timedOut(reason: reason)
        case FC_HTTP_TOO_LARGE:
            let announced = unsafe Int(answer.announced)
            throw .tooLarge(announced: announced > request.limit ? announced : nil)
        default: throw .failed(reason: reason)
        }
    }

    private static func copy(_ answer: fc_http_answer) -> Answer {
        unsafe Answer(
            status: Int(answer.status),
            body: Array(UnsafeBufferPointer(start: answer.count > 0 ? answer.body : nil, count: answer.count)),
            location: text(answer.location), etag: text(answer.etag), lastModified: text(answer.last_modified),
            contentType: text(answer.content_type), retryAfter: text(answer.retry_after))
    }

    private static func text(_ pointer: UnsafePointer<CChar>?) -> String? {
        unsafe pointer.map { unsafe String(cString: $0) }
    }
}
