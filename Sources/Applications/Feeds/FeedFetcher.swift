import Reactor

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
        /// Status 410 (RFC 9110 section 15.5.11).
        case gone
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
    /// With what to ask with next time, where that is new.
    case unchanged(FeedValidators?)
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
            if status == last { return .unchanged(nil) }
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
