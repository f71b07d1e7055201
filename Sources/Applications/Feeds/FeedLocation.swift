import Cryptography
import Feed
import FoundationEssentials

/// Where a feed is, as `--feed` says it.
package enum FeedLocation: Sendable, Equatable, CustomStringConvertible, CustomReflectable {
    /// The URL has no user information and no fragment; its query may be a secret.
    case web(URL, credentials: FeedCredentials? = nil)
    /// Absolute, or relative to the working directory.
    case file(path: String)

    /// Reads `http:` and `https:` URLs, `file:` URLs and paths, each also after a name and `=`.
    /// - Throws: an error that says what is accepted, and nothing secret of `text`.
    package init(_ text: String) throws(FeedLocationError) {
        let text = Self.parts(of: text).location
        guard !text.isEmpty else { throw FeedLocationError(text: text, reason: "it is empty") }
        let scheme = text.prefix { $0 != ":" }.lowercased()
        switch scheme {
        case "http", "https": self = try Self.web(text)
        case "file":
            guard let url = URL(string: text), ["", "localhost"].contains(url.host() ?? ""), url.path().hasPrefix("/")
            else { throw FeedLocationError(text: text, reason: "a file URL is written file:///absolute/path") }
            self = .file(path: url.path(percentEncoded: false))
        default:
            guard !text.contains("://") else {
                throw FeedLocationError(text: text, reason: "the scheme \(scheme) is not supported")
            }
            self = .file(path: text)
        }
    }

    /// `NAME=LOCATION` is a feed with a name, by which receivers choose: letters, digits, `.`, `_` and `-`, 64 at the most.
    package static func parts(of text: String) -> (name: String?, location: String) {
        let name = text.prefix { $0.isASCII && ($0.isLetter || $0.isNumber || "._-".contains($0)) }
        guard (1...64).contains(name.count), text[name.endIndex...].first == "=" else { return (nil, text) }
        return (String(name), String(text[name.endIndex...].dropFirst()))
    }

    private static func web(_ text: String) throws(FeedLocationError) -> FeedLocation {
        let address = String(PublicAddress.withoutUserInformation(text).prefix { $0 != "#" })
        guard let whole = URL(string: text), let url = URL(string: address), let host = url.host(), !host.isEmpty,
            whole.host() == host
        else { throw FeedLocationError(text: text, reason: "it names no host") }
        let user = whole.user(percentEncoded: false) ?? ""
        let password = whole.password(percentEncoded: false) ?? ""
        guard !user.isEmpty || !password.isEmpty else { return .web(url) }
        guard let credentials = FeedCredentials(user: user, password: password) else {
            throw FeedLocationError(text: text, reason: "its user name has a colon or a control character")
        }
        return .web(url, credentials: credentials)
    }

    /// For logs: without user information, and of a query only that there is one.
    package var description: String {
        switch self {
        case .web(let url, _): PublicAddress.redacted(url.absoluteString)
        case .file(let path): path
        }
    }

    /// What holds a location must not show more of it than it does itself.
    package var customMirror: Mirror { Mirror(self, children: []) }

    /// For documents that go out: without user information and query.
    var published: String {
        switch self {
        case .web(let url, _): PublicAddress.published(url.absoluteString)
        case .file(let path): path
        }
    }

    /// A location as `--feed` says it, without what may be secret in it.
    package static func shown(_ text: String) -> String {
        let (name, location) = parts(of: text)
        return (name.map { $0 + "=" } ?? "") + PublicAddress.redacted(unreadable: location)
    }

    /// What tells two feeds apart and may be written to disk: a query is only there as its digest.
    ///
    /// - Parameter text: a location as `--feed` says it. Of what is no URL all is returned but a name.
    package static func identity(of text: String) -> String {
        guard case .web(let url, _) = try? FeedLocation(text) else { return parts(of: text).location }
        let address = PublicAddress.published(url.absoluteString)
        guard let query = url.query(percentEncoded: true) else { return address }
        return "\(address) query sha256=\(SHA256Digest(of: Array(query.utf8)))"
    }
}

/// A `--feed` that cannot be polled.
package struct FeedLocationError: Error, Sendable, CustomStringConvertible {
    /// What was given, without what may be secret in it.
    package let text: String
    package let reason: String

    init(text: String, reason: String) {
        self.text = PublicAddress.redacted(unreadable: text)
        self.reason = reason
    }

    package var description: String {
        "the feed '\(text)' cannot be polled: \(reason); accepted are http://…, https://…, file:///… and a path, each also as NAME=…"
    }
}
