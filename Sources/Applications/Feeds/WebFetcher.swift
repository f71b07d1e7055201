import Feed
import FoundationEssentials
import System

/// Gets a feed over HTTP, one request at a time.
///
/// `fetch` blocks its caller, the poller's thread, until the answer is complete, too large, too late or refused. No more
/// than `limit` octets are ever held.
///
/// Credentials go to the feed's own server and, where that redirects, to no other (RFC 9110 section 15.4: a redirected
/// request must not carry them along). No text that comes from here has a query in it.
final class WebFetcher: Sendable {
    private let url: URL
    private let credentials: FeedCredentials?
    /// The URL as it may be shown.
    private let address: String
    private let limit: Int
    private let timeout: Duration
    /// Made once, so that its connection is used again.
    private let client = HTTPClient(userAgent: "flexicast")

    static let longestRedirection = 5

    /// The addresses that one fetch has come by.
    private struct Way {
        var visited: [URL]
        /// Where the feed has moved for good (RFC 9110 section 15.4.2).
        var movedTo: URL?
    }

    init(url: URL, credentials: FeedCredentials? = nil, limit: Int, timeout: Duration) {
        self.url = url
        self.credentials = credentials
        address = PublicAddress.redacted(url.absoluteString)
        self.limit = limit
        self.timeout = timeout
    }

    /// Makes a waiting `fetch` return at once, and every later one.
    func stop() { client.stop() }

    /// Asks once, where the feed has moved to as far as that is known. `movedTo` is the address to use from now on when the
    /// server says so, `final` the one that answered.
    func fetch(_ validators: FeedValidators, at moved: URL? = nil) -> (result: FetchResult, movedTo: URL?, final: URL) {
        var way = Way(visited: [moved ?? url])
        do throws(FeedFailure) {
            let end = ContinuousClock.now + timeout
            while true {
                let answer = try get(way.visited[way.visited.count - 1], validators, end)
                guard Self.isRedirect(answer.status), let location = answer.location else {
                    return (try result(of: answer, to: validators), way.movedTo, way.visited[way.visited.count - 1])
                }
                try follow(location, isPermanent: answer.status == 301 || answer.status == 308, &way)
            }
        } catch { return (.failure(error), nil, url) }
    }

    private static func isRedirect(_ status: Int) -> Bool { [301, 302, 303, 307, 308].contains(status) }

    private func get(
        _ target: URL, _ validators: FeedValidators, _ end: ContinuousClock.Instant
    ) throws(FeedFailure) -> HTTPClient.Answer {
        var headers = ["Accept: application/atom+xml, application/rss+xml;q=0.9, application/xml;q=0.8, */*;q=0.5"]
        if let credentials, Self.isSameOrigin(target, url) {
            headers.append("Authorization: \(credentials.authorization)")
        }
        if let etag = validators.etag { headers.append("If-None-Match: \(etag)") }
        if let date = validators.lastModified { headers.append("If-Modified-Since: \(date)") }
        let request = HTTPClient.Request(
            url: Self.request(target), headers: headers, limit: limit, timeout: end - ContinuousClock.now)
        do throws(HTTPClient.Failure) { return try client.get(request) } catch {
            switch error {
            case .stopped: throw FeedFailure(.stopped, "stopped")
            case .timedOut(let reason):
                throw FeedFailure(.timedOut, "no complete answer from \(address) within \(timeout): \(reason)")
            case .tooLarge(let announced):
                let size = announced.map { "\($0)" } ?? "more and more"
                throw FeedFailure(
                    .tooLarge, "the answer of \(address) has \(size) bytes, more than the limit of \(limit)")
            case .failed(let reason): throw FeedFailure(.unreachable, "\(address): \(reason)")
            }
        }
    }

    /// As libcurl takes it: a host name outside ASCII not percent-encoded. Of octets that may mean something else none is decoded.
    private static func request(_ url: URL) -> String {
        let text = url.absoluteString
        guard let encoded = url.host(percentEncoded: true), encoded.contains("%"),
            let name = url.host(percentEncoded: false), let place = text.firstRange(of: encoded),
            name.unicodeScalars.allSatisfy({
                !$0.isASCII || $0.properties.isAlphabetic || "0123456789-._".unicodeScalars.contains($0)
            })
        else { return text }
        return text[..<place.lowerBound] + name + text[place.upperBound...]
    }

    private func result(
        of answer: HTTPClient.Answer, to validators: FeedValidators
    ) throws(FeedFailure) -> FetchResult {
        switch answer.status {
        case 200:
            return .document(
                answer.body, FeedValidators(etag: answer.etag, lastModified: answer.lastModified),
                charset: answer.contentType.flatMap(Self.charset))
        case 304:
            // RFC 9110 section 15.4.5: it has the validators that a 200 would have had.
            return .unchanged(
                FeedValidators(
                    etag: answer.etag ?? validators.etag,
                    lastModified: answer.lastModified ?? validators.lastModified))
        case 410:
            throw FeedFailure(.gone, "\(address) answers with status 410: there is no such feed any more")
        default:
            throw FeedFailure(
                .status, "\(address) answers with status \(answer.status)",
                retryAfter: PollSchedule.retryAfter(answer.retryAfter, now: Date()))
        }
    }

    /// The encoding that a Content-Type names (RFC 9110 section 8.3.1).
    static func charset(of contentType: String) -> String? {
        for parameter in contentType.split(separator: ";").dropFirst() {
            let sides = parameter.split(separator: "=", maxSplits: 1).map { side in
                side.drop { $0 == " " || $0 == "\t" }.prefix { $0 != " " && $0 != "\t" }
            }
            guard sides.count == 2, sides[0].lowercased() == "charset" else { continue }
            let name = sides[1].filter { $0 != "\"" }
            if !name.isEmpty { return name }
        }
        return nil
    }

    private func follow(_ location: String, isPermanent: Bool, _ way: inout Way) throws(FeedFailure) {
        // What a server puts before the host would be sent to whomever it names.
        guard let target = URL(string: PublicAddress.withoutUserInformation(location)) else {
            throw FeedFailure(.redirect, "\(address) redirects to no address")
        }
        let scheme = target.scheme?.lowercased() ?? ""
        guard scheme == "https" || (scheme == "http" && way.visited.last?.scheme?.lowercased() == "http") else {
            let shown = PublicAddress.redacted(unreadable: location)
            throw FeedFailure(
                .redirect, "\(address) redirects to \(shown), which is not followed: no \(scheme) from here")
        }
        guard let host = target.host(), !host.isEmpty else {
            throw FeedFailure(.redirect, "\(address) redirects to no address")
        }
        guard !way.visited.contains(target) else {
            let shown = PublicAddress.redacted(target.absoluteString)
            throw FeedFailure(.redirect, "\(address) redirects in a circle: \(shown) comes twice")
        }
        guard way.visited.count <= Self.longestRedirection else {
            throw FeedFailure(.redirect, "\(address) redirects more than \(Self.longestRedirection) times")
        }
        let onlyPermanentSoFar = way.visited.count == 1 || way.movedTo == way.visited.last
        if isPermanent, onlyPermanentSoFar { way.movedTo = target }
        way.visited.append(target)
    }

    /// RFC 9110 section 4.3.1.
    private static func isSameOrigin(_ a: URL, _ b: URL) -> Bool {
        func origin(_ url: URL) -> [String] {
            let scheme = url.scheme?.lowercased() ?? ""
            return [scheme, url.host()?.lowercased() ?? "", "\(url.port ?? (scheme == "https" ? 443 : 80))"]
        }
        return origin(a) == origin(b)
    }
}
