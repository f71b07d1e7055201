import Testing

@testable import Feed

@Suite struct PublicAddressTests {
    @Test(arguments: [
        ("https://a:b@h.example/x?q#f", "https://h.example/x", "https://h.example/x?…"),
        ("https://a@h.example", "https://h.example", "https://h.example"),
        ("https://a@b@h.example:1/@c", "https://h.example:1/@c", "https://h.example:1/@c"),
        ("https://h.example?u=a@b", "https://h.example", "https://h.example?…"),
        ("https://h.example#a@b?c", "https://h.example", "https://h.example"),
        ("//a:b@h/x?q", "//h/x", "//h/x?…"), ("/x//a@b?q", "/x//a@b", "/x//a@b?…"), ("", "", ""),
    ])
    func whatMayBeSeen(_ address: String, _ published: String, _ redacted: String) {
        #expect(PublicAddress.published(address) == published)
        #expect(PublicAddress.redacted(address) == redacted)
    }

    @Test func userInformationOnlyIsTakenOff() {
        #expect(PublicAddress.withoutUserInformation("https://a:b@h/x?q=a@b#f@") == "https://h/x?q=a@b#f@")
        #expect(PublicAddress.withoutUserInformation("mailto:a@b") == "mailto:a@b")
    }

    /// Whoever hands over the address, no item has more of it than this.
    @Test func theBaseOfItemsIsWithoutSecrets() throws {
        let base = "https://us3r:s3cret@h.example/feeds/new?token=t0ken#t0ken"
        let entry = "<entry><id>a:1</id><title/><link href=\"page\"/></entry>"
        let rss = Array("<rss><channel><item><link>three</link><x xmlns=\"urn:x\"/></item></channel></rss>".utf8)
        for (bytes, part) in [
            (Samples.feed(entry), "xml:base=\"https://h.example/feeds/new\""),
            (Samples.feed(entry, attributes: " xml:base=\"sub/\""), "xml:base=\"https://h.example/feeds/sub/\""),
            (rss, "<id>https://h.example/feeds/three</id>"),
        ] {
            let item = try #require(try FeedParser.parse(bytes, base: base).items.first)
            let text = String(decoding: item.document, as: UTF8.self)
            #expect(text.contains(part), "\(text)")
            for secret in ["us3r", "s3cret", "t0ken"] { #expect(!(text + item.id).contains(secret), "\(text)") }
        }
    }
}
