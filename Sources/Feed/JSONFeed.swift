import FoundationEssentials

/// Reads JSON Feed 1.1 and 1 (jsonfeed.org/version/1.1).
enum JSONFeed {
    /// Whether these octets can only be JSON.
    static func isLikely(_ text: [UInt8]) -> Bool { text.first { $0 > 0x20 } == UInt8(ascii: "{") }

    /// - Parameter text: UTF-8.
    static func document(_ text: [UInt8], retrieved: String?) throws(FeedError) -> FeedDocument {
        let feed: Feed
        do { feed = try JSONDecoder().decode(Feed.self, from: Data(text)) } catch {
            throw .malformed(line: 1, column: 1, reason: "this is JSON, but no JSON Feed")
        }
        guard feed.version.contains("jsonfeed.org/version/") else { throw .wrongRoot("JSON") }
        guard feed.items.count <= FeedLimits.items else { throw .tooManyItems(limit: FeedLimits.items) }
        var channel = ItemFields()
        channel.set("title", feed.title)
        channel.set("link", feed.home_page_url)
        channel.set("language", feed.language)
        channel.set("atom:link", feed.feed_url == nil ? nil : "", ["rel": "self", "href": feed.feed_url ?? ""])
        for author in feed.authors ?? [feed.author].compactMap(\.self) { channel.set("dc:creator", author.name) }
        let items = feed.items.map { item in
            var fields = ItemFields()
            fields.set("guid", item.id?.text, ["isPermaLink": "false"])
            fields.set("title", item.title)
            fields.set("link", item.url ?? item.external_url)
            fields.set("pubDate", item.date_published ?? item.date_modified)
            fields.set("content:encoded", item.content_html)
            fields.set("content:text", item.content_text)
            fields.set("description", item.summary)
            for author in item.authors ?? [item.author].compactMap(\.self) { fields.set("dc:creator", author.name) }
            for tag in item.tags ?? [] { fields.set("category", tag) }
            for file in item.attachments ?? [] {
                var attributes = ["url": file.url, "type": file.mime_type ?? "application/octet-stream"]
                if let size = file.size_in_bytes, let length = Int(exactly: size.rounded()) {
                    attributes["length"] = String(length)
                }
                fields.set("enclosure", "", attributes)
            }
            return fields
        }
        return EntryComposer(channel: channel, retrieved: retrieved).document(items, format: .json)
    }

    private struct Feed: Decodable {
        var version: String
        var title: String?
        var home_page_url: String?
        var feed_url: String?
        var language: String?
        var authors: [Author]?
        var author: Author?
        var items: [Item]
    }

    private struct Author: Decodable {
        var name: String?
    }

    private struct Item: Decodable {
        var id: Identifier?
        var url: String?
        var external_url: String?
        var title: String?
        var content_html: String?
        var content_text: String?
        var summary: String?
        var date_published: String?
        var date_modified: String?
        var authors: [Author]?
        var author: Author?
        var tags: [String]?
        var attachments: [Attachment]?
    }

    private struct Attachment: Decodable {
        var url: String
        var mime_type: String?
        var size_in_bytes: Double?
    }

    /// Version 1 has feeds whose ids are numbers.
    private struct Identifier: Decodable {
        var text: String

        init(from decoder: any Decoder) throws {
            let value = try decoder.singleValueContainer()
            if let text = try? value.decode(String.self) {
                self.text = text
            } else if let number = try? value.decode(Int.self) {
                text = String(number)
            } else {
                text = String(try value.decode(Double.self))
            }
        }
    }
}
