import Foundation

/// Where a feed is, as `--feed` says it.
public enum FeedLocation: Sendable, Equatable, CustomStringConvertible {
    case web(URL)
    /// Absolute, or relative to the working directory.
    case file(path: String)

    /// Reads `http:` and `https:` URLs, `file:` URLs and paths.
    public init(_ text: String) throws(FeedLocationError) {
        guard !text.isEmpty else { throw FeedLocationError(text: text, reason: "it is empty") }
        let scheme = text.prefix { $0 != ":" }.lowercased()
        switch scheme {
        case "http", "https":
            guard let url = URL(string: text), let host = url.host(), !host.isEmpty else {
                throw FeedLocationError(text: text, reason: "it names no host")
            }
            self = .web(url)
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

    public var description: String {
        switch self {
        case .web(let url): url.absoluteString
        case .file(let path): path
        }
    }
}

/// A `--feed` that cannot be polled.
public struct FeedLocationError: Error, Sendable, CustomStringConvertible {
    public let text: String
    public let reason: String

    public var description: String {
        "the feed '\(text)' cannot be polled: \(reason); accepted are http://…, https://…, file:///… and a path"
    }
}
