import Dispatch
import Feed
import Foundation
import FoundationNetworking
import Reactor
import Synchronization

/// What a server gives to ask it next time whether anything changed (RFC 9110 section 13.1), verbatim.
package struct FeedValidators: Sendable, Equatable, Codable {
    package var etag: String?
    package var lastModified: String?

    package init(etag: String? = nil, lastModified: String? = nil) {
        self.etag = etag
        self.lastModified = lastModified
    }
}

/// Why a poll brought nothing.
package struct FeedFailure: Error, Sendable, Equatable, CustomStringConvertible {
    package enum Kind: String, Sendable, CaseIterable {
        case unreachable
        case timedOut
        case status
        case redirect
        case tooLarge
        case document
        case file
        case stopped
    }

    package var kind: Kind
    package var description: String
    package var retryAfter: Duration?

    init(_ kind: Kind, _ description: String, retryAfter: Duration? = nil) {
        self.kind = kind
        self.description = description
        self.retryAfter = retryAfter
    }
}

/// What a poll brought.
enum FetchResult: Sendable {
    case unchanged
    /// - Parameter charset: the encoding that the server named.
    case document([UInt8], FeedValidators, charset: String? = nil)
    case failure(FeedFailure)
}

/// Reads a feed from a file. What is 304 to a server is here the same size, time and file number.
struct FileFetcher: Sendable {
    let path: String
    let limit: Int
    private var last: FileStatus?

    init(path: String, limit: Int) {
        self.path = path
        self.limit = limit
    }

    mutating func fetch() -> FetchResult {
        do throws(FileError) {
            // Looked at before it is read: a change in between is seen at the next poll.
            guard let status = try StoredFile.status(of: path) else {
                return .failure(FeedFailure(.file, "there is no file \(path)"))
            }
            if status == last { return .unchanged }
            guard let bytes = try StoredFile.read(path, limit: limit) else {
                return .failure(FeedFailure(.file, "there is no file \(path)"))
            }
            last = status
            return .document(bytes, FeedValidators())
        } catch {
            return .failure(FeedFailure(.file, error.description))
        }
    }

    /// The document was of no use, so it must be read again.
    mutating func forget() { last = nil }
}

/// Gets a feed over HTTP with Foundation's client, one request at a time.
///
/// The client calls back on a queue of its own; `fetch` blocks its caller, the poller's thread, until the answer is
/// complete, too large, too late or refused. No more than `limit` octets are ever held.
///
/// Credentials go to the feed's own server and, where that redirects, to no other (RFC 9110 section 15.4: a redirected
/// request must not carry them along). No text that comes from here has a query in it.
final class WebFetcher: NSObject, URLSessionDataDelegate, Sendable {
    private let url: URL
    private let credentials: FeedCredentials?
    /// The URL as it may be shown.
    private let address: String
    private let limit: Int
    private let timeout: Duration
    private let exchange = Mutex<Exchange?>(nil)
    private let isStopped = Atomic(false)
    /// Made once, so that its connection is used again; holds on to us until `stop`.
    private let session = Mutex<URLSession?>(nil)

    static let longestRedirection = 5

    private struct Exchange {
        var task: URLSessionTask
        var finished = DispatchSemaphore(value: 0)
        var request: URLRequest
        var visited: [URL]
        /// Where the feed has moved for good (RFC 9110 section 15.4.2).
        var movedTo: URL?
        var response: HTTPURLResponse?
        var body: [UInt8] = []
        var failure: FeedFailure?
    }

    init(url: URL, credentials: FeedCredentials? = nil, limit: Int, timeout: Duration) {
        self.url = url
        self.credentials = credentials
        address = PublicAddress.redacted(url.absoluteString)
        self.limit = limit
        self.timeout = timeout
    }

    /// Makes a waiting `fetch` return at once, and every later one.
    func stop() {
        isStopped.store(true, ordering: .sequentiallyConsistent)
        refuse(FeedFailure(.stopped, "stopped"))
        session.withLock { session in
            session?.invalidateAndCancel()
            session = nil
        }
    }

    private func makeSession() -> URLSession {
        session.withLock { session in
            if let session { return session }
            let configuration = URLSessionConfiguration.ephemeral
            configuration.urlCache = nil
            configuration.httpCookieStorage = nil
            configuration.requestCachePolicy = .reloadIgnoringLocalCacheData
            let made = URLSession(configuration: configuration, delegate: self, delegateQueue: nil)
            session = made
            return made
        }
    }

    /// Asks once. `movedTo` is the address to use from now on when the server says so.
    func fetch(_ validators: FeedValidators) -> (result: FetchResult, movedTo: URL?) {
        guard !isStopped.load(ordering: .sequentiallyConsistent) else {
            return (.failure(FeedFailure(.stopped, "stopped")), nil)
        }
        var request = URLRequest(url: url, cachePolicy: .reloadIgnoringLocalCacheData)
        request.timeoutInterval = seconds(timeout)
        request.setValue("flexicast", forHTTPHeaderField: "User-Agent")
        request.setValue(
            "application/atom+xml, application/rss+xml;q=0.9, application/xml;q=0.8, */*;q=0.5",
            forHTTPHeaderField: "Accept")
        request.setValue(credentials?.authorization, forHTTPHeaderField: "Authorization")
        if let etag = validators.etag { request.setValue(etag, forHTTPHeaderField: "If-None-Match") }
        if let date = validators.lastModified { request.setValue(date, forHTTPHeaderField: "If-Modified-Since") }

        let task = makeSession().dataTask(with: request)
        let started = Exchange(task: task, request: request, visited: [url])
        let finished = started.finished
        exchange.withLock { $0 = started }
        task.resume()
        if isStopped.load(ordering: .sequentiallyConsistent) { stop() }
        if finished.wait(timeout: .now() + seconds(timeout)) == .timedOut {
            refuse(FeedFailure(.timedOut, "no complete answer from \(address) within \(timeout)"))
        }
        let ended = exchange.withLock { (exchange: inout Exchange?) in
            defer { exchange = nil }
            return exchange
        }
        guard let ended else { return (.failure(FeedFailure(.stopped, "stopped")), nil) }
        return (outcome(of: ended), ended.failure == nil ? ended.movedTo : nil)
    }

    private func seconds(_ duration: Duration) -> Double {
        Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
    }

    private func outcome(of exchange: Exchange) -> FetchResult {
        if let failure = exchange.failure { return .failure(failure) }
        guard let response = exchange.response ?? exchange.task.response as? HTTPURLResponse else {
            return .failure(FeedFailure(.unreachable, "no answer from \(address)"))
        }
        switch response.statusCode {
        case 200:
            return .document(
                exchange.body,
                FeedValidators(
                    etag: response.value(forHTTPHeaderField: "ETag"),
                    lastModified: response.value(forHTTPHeaderField: "Last-Modified")),
                charset: response.textEncodingName)
        case 304: return .unchanged
        default: return .failure(refusal(response))
        }
    }

    private func refusal(_ response: HTTPURLResponse) -> FeedFailure {
        let meaning = HTTPURLResponse.localizedString(forStatusCode: response.statusCode)
        return FeedFailure(
            .status, "\(address) answers \(response.statusCode) (\(meaning))",
            retryAfter: PollSchedule.retryAfter(response.value(forHTTPHeaderField: "Retry-After"), now: Date()))
    }

    /// Ends the exchange; the first reason stands.
    private func refuse(_ failure: FeedFailure) {
        exchange.withLock { exchange in
            guard exchange != nil else { return }
            if exchange?.failure == nil { exchange?.failure = failure }
            exchange?.body = []
            exchange?.task.cancel()
            exchange?.finished.signal()
        }
    }

    /// Changes the exchange that `task` belongs to; an answer that comes too late belongs to none.
    private func update(_ task: URLSessionTask, _ change: (inout Exchange) -> Void) {
        exchange.withLock { exchange in
            guard exchange?.task === task, exchange?.failure == nil, var current = exchange.take() else { return }
            change(&current)
            exchange = current
        }
    }

    // MARK: - What the client reports

    func urlSession(
        _ session: URLSession, task: URLSessionTask, willPerformHTTPRedirection response: HTTPURLResponse,
        newRequest: URLRequest, completionHandler: @escaping (URLRequest?) -> Void
    ) {
        // Foundation traps when it is answered after the task was cancelled, so the answer is given, and a cancellation
        // made, only while the exchange is locked, and no answer follows a cancellation.
        exchange.withLock { exchange in
            guard exchange?.task === task, exchange?.failure == nil, var current = exchange.take() else { return }
            switch follow(response, to: newRequest, &current) {
            case .success(let request): completionHandler(request)
            case .failure(let failure):
                current.failure = failure
                completionHandler(nil)
                task.cancel()
                current.finished.signal()
            }
            exchange = current
        }
    }

    private func follow(
        _ response: HTTPURLResponse, to proposed: URLRequest, _ exchange: inout Exchange
    ) -> Result<URLRequest, FeedFailure> {
        let location = response.value(forHTTPHeaderField: "Location") ?? ""
        // What a server puts before the host would be sent to whomever it names.
        let proposal = PublicAddress.withoutUserInformation(proposed.url?.absoluteString ?? "")
        guard let target = URL(string: proposal), target.host() != nil else {
            return .failure(FeedFailure(.redirect, "\(address) redirects to no address"))
        }
        // Foundation proposes an http URL of this host for whatever Location names no host.
        let scheme = (URL(string: location)?.scheme ?? target.scheme ?? "").lowercased()
        guard scheme == "https" || (scheme == "http" && exchange.visited.last?.scheme?.lowercased() == "http") else {
            let shown = PublicAddress.redacted(unreadable: location)
            return .failure(
                FeedFailure(
                    .redirect, "\(address) redirects to \(shown), which is not followed: no \(scheme) from here")
            )
        }
        guard !exchange.visited.contains(target) else {
            let shown = PublicAddress.redacted(target.absoluteString)
            return .failure(FeedFailure(.redirect, "\(address) redirects in a circle: \(shown) comes twice"))
        }
        guard exchange.visited.count <= Self.longestRedirection else {
            return .failure(FeedFailure(.redirect, "\(address) redirects more than \(Self.longestRedirection) times"))
        }
        let isPermanent = response.statusCode == 301 || response.statusCode == 308
        let onlyPermanentSoFar = exchange.visited.count == 1 || exchange.movedTo == exchange.visited.last
        if isPermanent, onlyPermanentSoFar { exchange.movedTo = target }
        exchange.visited.append(target)
        var request = exchange.request
        request.url = target
        let authorization = Self.isSameOrigin(target, url) ? credentials?.authorization : nil
        request.setValue(authorization, forHTTPHeaderField: "Authorization")
        return .success(request)
    }

    /// RFC 9110 section 4.3.1.
    private static func isSameOrigin(_ a: URL, _ b: URL) -> Bool {
        func origin(_ url: URL) -> [String] {
            let scheme = url.scheme?.lowercased() ?? ""
            return [scheme, url.host()?.lowercased() ?? "", "\(url.port ?? (scheme == "https" ? 443 : 80))"]
        }
        return origin(a) == origin(b)
    }

    func urlSession(
        _ session: URLSession, dataTask: URLSessionDataTask, didReceive response: URLResponse,
        completionHandler: @escaping (URLSession.ResponseDisposition) -> Void
    ) {
        var failure: FeedFailure?
        if let response = response as? HTTPURLResponse {
            update(dataTask) { $0.response = response }
            if response.statusCode == 200, response.expectedContentLength > Int64(limit) {
                failure = tooLarge("\(response.expectedContentLength) bytes")
            } else if response.statusCode != 200, response.statusCode != 304 {
                failure = refusal(response)
            }
        }
        completionHandler(failure == nil ? .allow : .cancel)
        if let failure { refuse(failure) }
    }

    private func tooLarge(_ size: String) -> FeedFailure {
        FeedFailure(.tooLarge, "the answer of \(address) has \(size), more than the limit of \(limit)")
    }

    func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
        var isTooLarge = false
        update(dataTask) { exchange in
            if exchange.body.count + data.count > limit {
                isTooLarge = true
            } else {
                exchange.body.append(contentsOf: data)
            }
        }
        if isTooLarge { refuse(tooLarge("more and more bytes")) }
    }

    func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
        if let error {
            let isTimeout = (error as? URLError)?.code == .timedOut
            let reason = (error as NSError).localizedDescription
            refuse(FeedFailure(isTimeout ? .timedOut : .unreachable, "\(address): \(reason)"))
        } else {
            exchange.withLock { exchange in
                if exchange?.task === task { exchange?.finished.signal() }
            }
        }
    }
}
