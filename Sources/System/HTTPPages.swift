import CShims

/// Serves pages over HTTP/1.1 (RFC 9112) to GET and HEAD with libmicrohttpd, on its caller's thread: `run` does what there is to do.
@safe package final class HTTPPages {
    package struct Request: Sendable {
        /// Decoded, without the query.
        package var path: String
        /// Of `from=…` in the query.
        package var from: String?
        /// What the client takes.
        package var accept: String
    }

    package struct Page: Sendable {
        package var status = 200
        package var type: String
        package var body: [UInt8]

        package init(status: Int = 200, type: String, _ text: String) {
            self.status = status
            self.type = type
            body = Array(text.utf8)
        }

        package static let notFound = Page(status: 404, type: "text/plain; charset=utf-8", "404 Not Found\n")
        /// More was asked than is answered in this time.
        package static let tooMany = Page(status: 429, type: "text/plain; charset=utf-8", "429 Too Many Requests\n")
    }

    package struct Limits: Sendable {
        /// Connections at once.
        package var connections = 64
        /// Of them from one IPv4 address or IPv6 /64.
        package var connectionsPerAddress = 16
        /// Octets of a request's head, nearly.
        package var memory = 16 << 10
        /// How long a request and its answer may take together, and a connection be idle.
        package var patience = Duration.seconds(10)

        package init() {}
    }

    /// Connections closed because there were too many.
    package var turnedAway: UInt64 { unsafe handle.map { unsafe fc_httpd_counters($0).turned_away } ?? 0 }
    /// Connections closed because their time was over.
    package var givenUp: UInt64 { unsafe handle.map { unsafe fc_httpd_counters($0).given_up } ?? 0 }

    private var handle: OpaquePointer?
    private let page: (Request) -> Page

    /// - Parameters:
    ///   - listening: a TCP socket that listens. It is closed in the end.
    ///   - page: what is at a path.
    /// - Throws: `SystemError` when the library cannot serve it.
    package init(
        _ listening: Int32, limits: Limits = Limits(), page: @escaping (Request) -> Page
    ) throws(SystemError) {
        self.page = page
        var numbers = fc_httpd_limits(
            connections: UInt32(limits.connections), per_address: UInt32(limits.connectionsPerAddress),
            memory: limits.memory, patience: Int64(limits.patience / .nanoseconds(1)))
        unsafe handle = unsafe fc_httpd_open(
            listening, &numbers,
            { context, request, exchange in
                guard let context = unsafe context, let request = unsafe request else { return }
                unsafe Unmanaged<HTTPPages>.fromOpaque(context).takeUnretainedValue().answer(request.pointee, exchange)
            }, Unmanaged.passUnretained(self).toOpaque())
        guard unsafe handle != nil else { throw SystemError("serve pages", reason: "libmicrohttpd does not start") }
    }

    deinit { unsafe fc_httpd_close(handle) }

    /// Readable when `run` has something to do.
    package var descriptor: Int32 { unsafe fc_httpd_descriptor(handle) }

    /// Does what there is to do.
    /// - Parameter now: of a clock that only goes forward, in nanoseconds.
    /// - Returns: nanoseconds after which it is to be called again in any case; nil when the descriptor tells enough.
    package func run(at now: Int64) -> Int64? {
        let wait = unsafe fc_httpd_run(handle, now)
        return wait < 0 ? nil : wait
    }

    private func answer(_ request: fc_httpd_request, _ exchange: OpaquePointer?) {
        func text(_ pointer: UnsafePointer<CChar>?) -> String? { unsafe pointer.map { unsafe String(cString: $0) } }
        let found = unsafe page(
            Request(path: text(request.path) ?? "", from: text(request.from), accept: text(request.accept) ?? ""))
        unsafe found.body.withUnsafeBufferPointer {
            unsafe fc_httpd_answer(exchange, UInt32(found.status), found.type, $0.baseAddress, $0.count)
        }
    }
}
