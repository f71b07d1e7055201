import Foundation
import TestSupport
import Testing

/// A browser without a window.
private enum Browser {
    static let obstacle: String? =
        Ground.obstacle ?? (Machine.has("chromium") ? nil : "chromium is missing: make test installs it")

    /// A window of a desk and one of a telephone.
    enum Window: String, CaseIterable {
        case desk = "1280,800"
        case telephone = "390,844"
    }

    static func run(_ arguments: [String], url: String, window: Window, isDark: Bool = false) throws -> String {
        let profile = try TemporaryDirectory()
        let ran = try TestSupport.run(
            "/usr/bin/chromium",
            [
                "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
                "--user-data-dir=\(profile.url.path)", "--window-size=\(window.rawValue)",
                "--blink-settings=preferredColorScheme=\(isDark ? 0 : 1)",
                // Its own clock, which stands still while an answer is waited for.
                "--virtual-time-budget=4000",
            ] + arguments + [url])
        try #require(ran.status == 0, "\(ran.errors)")
        return ran.output
    }
}

/// The page that a source serves, as a browser shows it.
@Suite(.serialized, .enabled(if: Browser.obstacle == nil, "\(Browser.obstacle ?? "")"))
struct LivePageTests {
    /// A source with two receivers that are sent copies, one on unicast, and one that has gone. Its feed's name is to do harm.
    private final class Stage {
        let directory: TemporaryDirectory
        let source: Child
        let port: Int
        var receivers: [Child] = []

        init() throws {
            directory = try TemporaryDirectory()
            let file = directory.url.appending(path: "feed <b id=harm>&amp;.atom")
            let feed = try LoadFeed(file: file, octets: 30_000)
            source = try Child(
                "source",
                [
                    Ground.program, "source", "--feed", file.path, "--poll", "50ms", "--listen", "127.0.0.1:0",
                    "--replicate", "--metrics", "127.0.0.1:0", "--json",
                ], log: directory.url.appending(path: "source.log"))
            try source.awaitEvent("listening")
            let listening = try #require(source.told.events.first)
            port = try #require(listening.metrics?.split(separator: ":").last.flatMap { Int($0) })
            for (number, path) in ["auto", "auto", "unicast", "unicast"].enumerated() {
                let receiver = try Child(
                    "receiver \(number)",
                    [
                        Ground.program, "receive", listening.address ?? "", "--trust", listening.certificate ?? "",
                        "--path", path, "--json",
                    ], log: directory.url.appending(path: "receiver\(number).log"))
                try receiver.awaitEvent(path == "auto" ? "listening" : "connected")
                receivers.append(receiver)
            }
            try receivers.removeLast().end()
            try feed.publish(3)
            for receiver in receivers {
                try waitUntil(seconds: 20, "items\n\(receiver.logTail)") { receiver.told.itemLines == 3 }
            }
            // A second later it is in the summary.
            try waitUntil(seconds: 20, "the summary") {
                let summary = try summary()
                return summary.receivers.left == 1 && summary.items == 3 && summary.slowest.count == 3
                    && summary.receivers.copies == 2
            }
        }

        var url: String { "http://127.0.0.1:\(port)/" }

        func fetch(_ path: String) throws -> String {
            let ran = try run("/usr/bin/curl", ["-sS", "-f", url + path])
            try #require(ran.status == 0, "\(ran.errors)")
            return ran.output
        }

        func summary() throws -> Summary { try JSONDecoder().decode(Summary.self, from: Data(fetch("summary").utf8)) }
    }

    // swift-format-ignore: AlwaysUseLowerCamelCase
    private struct Summary: Decodable {
        struct Receivers: Decodable {
            var copies: Int
            var left: Int
        }
        struct Octets: Decodable {
            var copies: Int
            var unicast_alone: Int
        }
        struct One: Decodable { var address: String }
        var items: Int
        var receivers: Receivers
        var octets: Octets
        var slowest: [One]
    }

    @Test func thePageShowsWhatIsThere() throws {
        let stage = try Stage()
        let page = try Browser.run(["--dump-dom"], url: stage.url, window: .desk)
        func text(_ id: String) -> String? {
            page.firstMatch(of: try! Regex("id=\"\(id)\"[^>]*>([^<]*)<")).flatMap {
                $0.output[1].substring.map(String.init)
            }
        }
        #expect(text("state") == "live")
        let tiles = ["receivers": "3", "on-flow": "0", "on-copies": "2", "on-unicast": "1", "gone": "1", "items": "3"]
        for (id, number) in tiles { #expect(text(id) == number, "\(id)") }
        let summary = try stage.summary()
        for receiver in summary.slowest { #expect(page.contains(">\(receiver.address)</td>"), "\(receiver.address)") }
        // 3 items of 30 kB to two receivers by copies, to one on its connection.
        #expect(summary.octets.unicast_alone > 270_000 && summary.octets.copies > 180_000)
        #expect(
            page.contains(
                "unicast to all (computed) \(Int((Double(summary.octets.unicast_alone) / 1000).rounded())) kB"))
        // Three charts are drawn, each with its curves.
        #expect(page.matches(of: /<svg/).count == 3 && page.matches(of: /<polygon/).count == 3)
        #expect(page.matches(of: /<polyline/).count == 1 + 6 + 2)
        // Others' words are words.
        #expect(!page.contains("id=\"harm\"") && !page.contains("id=harm>"))
        #expect(page.contains("feed &lt;b id=harm&gt;&amp;amp;.atom"))
    }

    /// What the page needs is in it: it names no other file, and is told not to ask for any.
    @Test func thePageIsOneFile() throws {
        let text = try String(
            contentsOf: Machine.root.appending(path: "Sources/Applications/Feeds/LivePage.html"), encoding: .utf8)
        #expect(
            text.matches(of: /(?:src|srcset|action|data)=|@import|url\(|<link|https?:\/\/(?!www\.w3\.org\/2000\/svg)/)
                .isEmpty)
        #expect(text.utf8.count < 40_000)
        let stage = try Stage()
        #expect(try stage.fetch("") == text)
        let head = try run("/usr/bin/curl", ["-sS", "-I", stage.url]).output
        #expect(head.contains("Content-Security-Policy: default-src 'none';") && head.contains("text/html"))
    }

    /// Pictures to look at, in FLEXICAST_PICTURES if that names a directory.
    @Test func picturesAreMade() throws {
        let stage = try Stage()
        let scratch = try TemporaryDirectory()
        let place =
            ProcessInfo.processInfo.environment["FLEXICAST_PICTURES"].map { URL(fileURLWithPath: $0) } ?? scratch.url
        for window in Browser.Window.allCases {
            var pictures: [Data] = []
            for isDark in [false, true] {
                let file = place.appending(path: "page-\(window)-\(isDark ? "dark" : "light").png")
                _ = try Browser.run(["--screenshot=\(file.path)"], url: stage.url, window: window, isDark: isDark)
                let picture = try Data(contentsOf: file)
                // PNG: width and height are in the first chunk, big-endian.
                let size = [16, 20].map { start in (0..<4).reduce(0) { $0 << 8 | Int(picture[start + $1]) } }
                #expect(size.map(String.init).joined(separator: ",") == window.rawValue)
                // An empty page takes far less.
                #expect(picture.count > 20_000)
                pictures.append(picture)
            }
            #expect(pictures[0] != pictures[1])
        }
    }

    /// Nothing has to be scrolled to the side on a telephone, whatever numbers, addresses and names are on the page.
    @Test(arguments: Browser.Window.allCases)
    fileprivate func nothingIsTooWide(window: Browser.Window) throws {
        let page = try String(
            contentsOf: Machine.root.appending(path: "Sources/Applications/Feeds/LivePage.html"), encoding: .utf8)
        let address = "[fd12:3456:789a:bcde:f012:3456:789a:bcde]:65535"
        let one = """
            {"address":"\(address)","way":"unicast","reason":"evicted by vote","parts_behind":123456789,"rtt_us":1234567,
            "loss_ppm":123456,"takes_bits":1234567890,"since_s":1}
            """
        let summary = """
            {"time_ms":1,"uptime_s":8640000,"items":123456789,"flow_rate_bits":1234567890,"flow_loss_ppm":123456,
            "receivers":{"flow":12345,"copies":12345,"unicast":12345,"left":123456789,"waiting":12345,"refused":123456},
            "octets":{"flow":123456789012345,"copies":123456789012345,"repair":123456789012345,"unicast":123456789012345,
            "control":1,"unicast_alone":123456789012345},"round_trip_us":{"p50":1234567,"p90":1234567,"p99":12345678},
            "connection_loss_ppm":{"p50":123456,"p90":123456,"p99":123456},"slowest":[\(one),\(one)],
            "feeds":[{"feed":"https://feeds.example.org/\(String(repeating: "long", count: 40)).atom","polls":123456789,
            "failed":1234567,"failing":"document","polled_ms_ago":100000000,"read_ms_ago":100000000,
            "new_items":1234567,"edited_items":1234567}],"step_s":36000,
            "points":[[0,1,1,1,1,1,1,1,1,1,1,1,1],[8640000,12345,12345,12345,123456789,123456789012345,123456789012345,
            123456789012345,123456789012345,123456789012345,1234567,12345678,123456]]}
            """
        let before = "<script>window.fetch = async () => ({json: async () => (\(summary))})</script>"
        let after = """
            <script>setTimeout(() => {
                const wide = [...document.querySelectorAll("main *:not(svg *)")].filter(one => one.scrollWidth > one.clientWidth + 1
                    && one.clientWidth > 0 && getComputedStyle(one).display !== "inline").map(one => one.id || one.className || one.tagName);
                parent.document.title = `${document.documentElement.scrollWidth} of ${innerWidth}, ${wide}, `
                    + document.getElementById("slowest").textContent.split("\(address)").length;
            }, 2500)</script>
            """
        // In a frame, which may be narrower than a browser's window.
        let inner = String(decoding: try JSONEncoder().encode(before + page + after), as: UTF8.self)
        let size = window.rawValue.split(separator: ",")
        let outer = """
            <title>nothing</title><iframe id="page" style="border: 0; width: \(size[0])px; height: \(size[1])px"></iframe>
            <script>document.getElementById("page").srcdoc = \(inner)</script>
            """
        let directory = try TemporaryDirectory()
        let file = directory.url.appending(path: "page.html")
        try outer.write(to: file, atomically: true, encoding: .utf8)
        let shown = try Browser.run(["--dump-dom"], url: file.absoluteString, window: .desk)
        let title = try #require(shown.firstMatch(of: /<title>([^<]*)<\/title>/)?.1)
        #expect(title == "\(size[0]) of \(size[0]), , 3")
        if let place = ProcessInfo.processInfo.environment["FLEXICAST_PICTURES"] {
            try (before + page).write(to: file, atomically: true, encoding: .utf8)
            _ = try Browser.run(["--screenshot=\(place)/full-\(window).png"], url: file.absoluteString, window: window)
        }
    }
}
