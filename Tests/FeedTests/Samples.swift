import Foundation

enum Samples {
    /// The style of public-inbox: us-ascii, attributes on lines of their own, XHTML with significant white space.
    static let mailList = Array(
        """
        <?xml version="1.0" encoding="us-ascii"?>
        <feed
        xmlns="http://www.w3.org/2005/Atom"
        xmlns:thr="http://purl.org/syndication/thread/1.0"><title>Sample list</title><link
        rel="alternate"
        type="text/html"
        href="https://lists.example.org/sample/"/><link
        rel="self"
        href="https://lists.example.org/sample/new.atom"/><id>mailto:list@example.org</id><updated>2025-09-05T09:49:57Z\
        </updated><entry><author><name>A</name><email>a@example.org</email></author><title>Re: [PATCH 1/2] a &lt;
        b</title><updated>2025-09-05T09:49:57Z</updated><link
        href="https://lists.example.org/sample/1/"/><id>urn:uuid:1</id><thr:in-reply-to
        ref="urn:uuid:0"
        href="https://lists.example.org/sample/0/"/><content
        type="xhtml"><div
        xmlns="http://www.w3.org/1999/xhtml"><pre
        style="white-space:pre-wrap" title="one&#10;two &#34;three&#34;"><span
        class="q">&gt; one &amp; ]]&gt;
          two

        \tthree &#13;
        </span>four&#233;</pre><b/><br/><!-- a comment --></div></content></entry><entry><author><name>B</name>\
        </author><title
        type="html">&#10003; done &amp;amp; dusted</title><updated>2025-09-05T09:40:00Z</updated><id>urn:uuid:2</id>\
        <content type="html"><![CDATA[<p>a & b</p>]]></content></entry></feed>
        """.utf8)

    /// Everything prefixed, with base, language and metadata on the feed, some of it after the entries.
    static let prefixed = Array(
        """
        <?xml version='1.0' encoding="utf-8"?>
        <!-- before --><?before the root?>
        <a:feed xmlns:a="http://www.w3.org/2005/Atom" xmlns:unused="urn:unused" xmlns:g="urn:g" xml:lang="de"
          xml:base="https://example.org/blog/">
          <a:id>urn:feed</a:id><a:title g:kind="x">Blog</a:title><a:updated>2025-01-01T00:00:00Z</a:updated>
          <a:entry xml:base="2025/" xmlns:own="urn:own"><a:id>urn:e:1</a:id><a:title type="xhtml"><div
            xmlns="http://www.w3.org/1999/xhtml">An <b>xhtml</b> title</div></a:title>
            <a:updated>2025-01-01T00:00:00+01:00</a:updated><a:link href="post"/>
            <own:more own:n="1" xmlns:deep="urn:deep"><deep:x/></own:more><g:last/></a:entry>
          <a:author><a:name>Feed author</a:name></a:author><a:rights>CC0</a:rights>
        </a:feed>
        """.utf8)

    static let rss = Array(
        """
        <?xml version="1.0" encoding="UTF-8"?>
        <rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/"
          xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:atom="http://www.w3.org/2005/Atom" xmlns:m="urn:m">
        <channel><title>Channel &amp; Co</title><link>https://example.org/</link><description>d</description>
        <atom:link rel="self" href="https://example.org/feed.xml" type="application/rss+xml"/>
        <language>en</language><lastBuildDate>Fri, 05 Sep 2025 12:00:00 GMT</lastBuildDate>
        <image><title>not the channel's</title><link>https://example.org/image</link></image>
        <item><title>One</title><link>https://example.org/1</link><guid>https://example.org/?p=1</guid>
          <pubDate>Fri, 05 Sep 2025 11:49:57 +0200</pubDate><description>short</description>
          <content:encoded><![CDATA[<p>long &amp; <b>bold</b></p>]]></content:encoded>
          <category domain="https://example.org/tags">News</category>
          <enclosure url="https://example.org/1.mp3" length="12" type="audio/mpeg"/>
          <m:rating m:by="me"><m:stars>5</m:stars></m:rating></item>
        <item><title>T&amp;lt;wo &amp;amp; half</title><guid isPermaLink="false">id two/2</guid>
          <author>jo@example.org (Jo Doe)</author><description>&lt;p&gt;two&lt;/p&gt;</description>
          <pubDate>Thu, 4 Sep 25 09:00 EDT</pubDate></item>
        <item><link>/three</link><description>3</description></item>
        <item><title>Only a title</title></item>
        <item></item>
        </channel></rss>
        """.utf8)

    static func feed(_ content: String, attributes: String = "") -> [UInt8] {
        Array(
            "<feed xmlns=\"http://www.w3.org/2005/Atom\"\(attributes)><id>urn:f</id><title>F</title>\(content)</feed>"
                .utf8)
    }

    /// Prints every entry of feeds or entry documents (with a zero octet between them), as canonical lines: names with
    /// namespaces, sorted attributes, exact text. The `atom:source` and inherited attributes are left out.
    static let dumpEntries = """
        import sys, xml.etree.ElementTree as E
        A = '{http://www.w3.org/2005/Atom}'; X = '{http://www.w3.org/XML/1998/namespace}'
        def dump(e, depth):
            attributes = sorted((k, v) for k, v in e.attrib.items() if depth or not k.startswith(X))
            tail = '' if depth == 0 else e.tail
            print(depth, ascii(e.tag), ascii(attributes), ascii(e.text), ascii(tail or ''))
            for c in e:
                if c.tag != A + 'source': dump(c, depth + 1)
        for document in sys.stdin.buffer.read().split(b'\\0'):
            root = E.fromstring(document)
            for e in [root] if root.tag == A + 'entry' else root.iter(A + 'entry'): dump(e, 0)
        """
}

/// Python as an independent truth.
enum Python {
    struct Failure: Error { var status: Int32 }

    static func run(_ script: String, input: [UInt8] = []) throws -> String {
        String(decoding: try bytes(script, input: input), as: UTF8.self)
    }

    static func bytes(_ script: String, input: [UInt8]) throws -> [UInt8] {
        let file = FileManager.default.temporaryDirectory.appending(path: "feed-\(UUID().uuidString)")
        try Data(input).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["python3", "-c", script]
        process.standardInput = try FileHandle(forReadingFrom: file)
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let data = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw Failure(status: process.terminationStatus) }
        return Array(data)
    }
}
