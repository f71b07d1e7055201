import Cryptography
import Feed
import FoundationEssentials
import Operation

/// What a source would send of a feed that it polls for the first time, and what not, with the reasons.
package struct FeedCheck: Sendable {
    /// Where the feed is, without what may be secret in it.
    package let location: String
    /// Why it cannot be read at all; nil when it can.
    package private(set) var failure: String?
    /// Of the feed, as plain text.
    package private(set) var title = ""
    /// What would be sent, in this order.
    package private(set) var items: [FeedItem] = []
    /// One reason for each item that would not be.
    package private(set) var leftOut: [String] = []
    /// What is wrong with the document that is read in spite of it, with line and column.
    package private(set) var fault: String?
    /// Where the feed has moved for good.
    package private(set) var movedTo: String?

    /// Whether all of the feed can be read, and nothing is wrong with it.
    package var isGood: Bool { failure == nil && leftOut.isEmpty && fault == nil }

    /// Fetches the feed once, as a source would.
    /// - Parameters:
    ///   - text: as `--feed` has it.
    ///   - strict: a document that is not well-formed is refused as a whole.
    ///   - timeout: for all of it.
    /// - Throws: `FeedLocationError` when `text` is no place of a feed.
    package init(_ text: String, strict: Bool = false, timeout: Duration = .seconds(60)) throws {
        let place = try FeedLocation(text)
        location = place.description
        let (result, final) = fetch(place, timeout)
        switch result {
        case .failure(let failure): self.failure = failure.description
        case .unchanged: failure = "the server says that nothing has changed, though it was not asked"
        case .document(let bytes, _, let charset):
            do throws(FeedError) {
                let document = try FeedParser.parse(
                    bytes, base: place.base(after: final), charset: charset, strict: strict)
                var memory = FeedMemory(capacity: document.items.count + 1)
                items = memory.absorb(document, digest: { SHA256Digest(of: $0).octets }).map(\.item)
                title = document.title
                leftOut = document.unusable
                if memory.duplicates > 0 { leftOut.append("\(memory.duplicates) with the id of another") }
                fault = document.fault
            } catch { failure = error.description }
        }
    }

    private mutating func fetch(_ place: FeedLocation, _ timeout: Duration) -> (FetchResult, final: URL?) {
        switch place {
        case .file(let path):
            var fetcher = FileFetcher(path: path, limit: FeedLimits.documentBytes)
            return (fetcher.fetch(), nil)
        case .web(let url, let credentials):
            let fetcher = WebFetcher(
                url: url, credentials: credentials, limit: FeedLimits.documentBytes, timeout: timeout)
            let (result, moved, final) = fetcher.fetch(FeedValidators())
            movedTo = moved.map { PublicAddress.redacted($0.absoluteString) }
            return (result, final)
        }
    }

    /// For people, a line for each item.
    package var text: String {
        guard failure == nil else { return "\(location) cannot be read: \(failure ?? "")" }
        var lines = ["\(location): \(items.count) items would be sent of \"\(title)\""]
        if let movedTo { lines.append("moved for good to \(movedTo)") }
        if let fault { lines.append("read in spite of a fault: \(fault)") }
        lines += leftOut.map { "left out: \($0)" }
        lines += items.map { "\($0.updated)  \($0.title)  (\($0.document.count) B)  \($0.id)" }
        return lines.joined(separator: "\n")
    }

    /// One line of JSON.
    package var json: String {
        let told = items.map { item in
            jsonObject([
                "id": item.id, "title": item.title, "updated": item.updated, "bytes": item.document.count,
                "sha256": "\(SHA256Digest(of: item.document))",
            ])
        }
        return jsonObject([
            "feed": location, "failure": failure, "title": title, "moved_to": movedTo, "fault": fault,
            "items": JSONText("[" + told.joined(separator: ",") + "]"),
            "left_out": JSONText("[" + leftOut.compactMap(\.json).joined(separator: ",") + "]"),
        ])
    }
}

extension FeedLocation {
    /// What relative addresses in the feed are relative to: after redirects the last address counts (RFC 3986 section 5.1.3).
    func base(after final: URL?) -> String? {
        guard case .web = self else { return nil }
        return final.map { PublicAddress.published($0.absoluteString) } ?? published
    }
}
