import FoundationEssentials

/// A feed that grows, for demonstrations without a network: patch mails of an invented kernel list. Item number `n` is
/// the same on every machine and in every run.
public enum SampleFeed {
    /// The size of an item's mail, as often as it occurs on a busy list: many small ones, few of 75 kB.
    private static let sizes = [
        2300, 520, 3300, 1900, 5100, 1500, 2900, 24000, 1600, 3000, 4700, 2600, 1900, 12000, 2000, 4000, 6200, 3400,
        900,
        70000, 2800, 1900, 3400, 5300, 4300,
    ]

    /// The document after `count` items have been published, newest first.
    ///
    /// `window`: how many of the newest items the document holds. Who polls must do so before this many new
    /// ones have come. `size`: octets of each item's text, about; nil is as on a busy list.
    public static func document(upTo count: Int, window: Int = 100, size: Int? = nil) -> [UInt8] {
        var out = FragmentRecorder(unlimited: true)
        out.raw("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n".utf8)
        out.raw(
            "<feed xmlns=\"\(Namespace.atom)\" xmlns:thr=\"http://purl.org/syndication/thread/1.0\">".utf8)
        out.element("title", [], "Sample kernel list")
        out.element(
            "link", [("rel", "alternate"), ("type", "text/html"), ("href", "https://lists.example.org/sample/")])
        out.element("link", [("rel", "self"), ("href", "https://lists.example.org/sample/new.atom")])
        out.element("id", [], "mailto:sample@lists.example.org")
        out.element("updated", [], Timestamp.text(date(max(count - 1, 0))))
        for number in stride(from: count - 1, through: max(0, count - window), by: -1) {
            write(number, size: size, into: &out)
        }
        out.raw("</feed>\n".utf8)
        return out.bytes
    }

    /// The id of item `number`, counted from 0.
    public static func id(of number: Int) -> String {
        var random = Mixer(seed: UInt64(number) &+ 0x1d)
        let digits = Mixer.hex(random.next()) + Mixer.hex(random.next())
        let parts = [0..<8, 8..<12, 12..<16, 16..<20, 20..<32].map { range in
            String(Array(digits)[range])
        }
        return "urn:uuid:" + parts.joined(separator: "-")
    }

    private static func date(_ number: Int) -> Date { Date(timeIntervalSince1970: 1_757_000_000 + Double(number) * 23) }

    private static func write(_ number: Int, size: Int?, into out: inout FragmentRecorder) {
        var random = Mixer(seed: UInt64(number) &+ 0x5eed)
        let usual = sizes[number % sizes.count] * (90 + random.below(20)) / 100
        let mail = Mail(number: number, size: size ?? usual, &random)
        out.raw("<entry><author>".utf8)
        out.element("name", [], mail.author)
        out.element("email", [], mail.address)
        out.raw("</author>".utf8)
        out.element("title", [], mail.title)
        out.element("updated", [], Timestamp.text(date(number)))
        out.element("link", [("href", "https://lists.example.org/sample/\(number)@example.org/")])
        out.element("id", [], id(of: number))
        if let parent = mail.parent {
            out.element(
                "thr:in-reply-to",
                [("ref", id(of: parent)), ("href", "https://lists.example.org/sample/\(parent)@example.org/")])
        }
        out.raw("<content type=\"xhtml\"><div xmlns=\"\(Namespace.xhtml)\"><pre style=\"white-space:pre-wrap\">".utf8)
        for part in mail.parts {
            guard part.isQuoted else {
                out.text(part.text)
                continue
            }
            out.raw("<span class=\"q\">".utf8)
            out.text(part.text)
            out.raw("</span>".utf8)
        }
        out.raw("</pre></div></content></entry>\n".utf8)
    }
}

/// One invented mail: a patch or an answer to one.
private struct Mail {
    var author: String
    var address: String
    var title: String
    var parent: Int?
    var parts: [(text: String, isQuoted: Bool)] = []

    init(number: Int, size: Int, _ random: inout Mixer) {
        let driver = random.one(of: Words.drivers)
        let subsystem = random.one(of: Words.subsystems)
        author = random.one(of: Words.given) + " " + random.one(of: Words.family)
        address = "u\(Mixer.hex(random.next()).prefix(8))@example.org"
        let isReply = number > 3 && random.below(5) < 2
        parent = isReply ? number - 1 - random.below(3) : nil
        let series = 1 + random.below(9)
        let version = random.below(3) == 0 ? " v\(2 + random.below(6))" : ""
        title =
            (isReply ? "Re: " : "")
            + "[PATCH\(version) \(1 + random.below(series))/\(series)] \(subsystem): \(driver): "
            + random.one(of: Words.changes)
        if isReply {
            parts.append(("On \(Words.days[number % 7]), \(random.one(of: Words.given)) wrote:\n\n", false))
            parts.append((Self.prose(&random, sentences: 3, quote: "> "), true))
            parts.append(("\n" + Self.prose(&random, sentences: 2, quote: ""), false))
        } else {
            parts.append((Self.prose(&random, sentences: 3, quote: ""), false))
            parts.append(("\nSigned-off-by: \(author) <\(address)>\n---\n", false))
        }
        var length = parts.reduce(0) { $0 + $1.text.utf8.count }
        while length < size - 250 {
            let hunk = Self.hunk(&random, driver: driver, subsystem: subsystem, quote: isReply ? "> " : "")
            parts.append((hunk, isReply))
            length += hunk.utf8.reduce(0) { $0 + (UInt8(ascii: "<")...UInt8(ascii: ">") ~= $1 ? 4 : 1) }
        }
        parts.append(("-- \n\(author)\n", false))
    }

    private static func prose(_ random: inout Mixer, sentences: Int, quote: String) -> String {
        (0..<sentences).map { _ in quote + random.one(of: Words.sentences) + "\n" }.joined()
    }

    private static func hunk(_ random: inout Mixer, driver: String, subsystem: String, quote: String) -> String {
        let file = "drivers/\(subsystem)/\(driver).c"
        let line = 20 + random.below(3000)
        var text = "\(quote)diff --git a/\(file) b/\(file)\n\(quote)--- a/\(file)\n\(quote)+++ b/\(file)\n"
        let function = "\(driver)_\(random.one(of: Words.verbs))"
        text += "\(quote)@@ -\(line),8 +\(line),9 @@ static int \(function)(struct device *dev)\n"
        for _ in 0..<(6 + random.below(8)) {
            let mark = random.one(of: [" ", " ", " ", "+", "-"])
            let left = random.one(of: Words.values)
            let right = random.one(of: Words.values)
            let statement = random.one(of: [
                "\tif (\(left) && \(right) > 0)\n\(quote)\(mark)\t\treturn -EINVAL;",
                "\tret = \(driver)_\(random.one(of: Words.verbs))(dev, &\(left));",
                "\t\(left) = \(right) << \(random.below(31));",
                "\tdev_dbg(dev, \"%s: \(left) is <%d>\\n\", __func__, \(right));", "",
            ])
            text += "\(quote)\(mark)\(statement)\n"
        }
        return text
    }
}

private enum Words {
    static let subsystems = ["net", "mmc", "iio", "usb", "clk", "spi", "gpio", "media", "rtc", "hwmon", "thermal"]
    static let drivers = [
        "quill", "harrow", "tarn", "osprey", "lintel", "marlow", "fennel", "gable", "rowan", "kestrel",
    ]
    static let verbs = ["probe", "remove", "resume", "suspend", "read", "write", "reset", "enable", "poll", "flush"]
    static let values = ["ret", "count", "priv->state", "ctx->len", "i", "mask", "port->flags", "timeout_us", "depth"]
    static let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    static let given = [
        "Ada", "Björn", "Chiara", "Dmitri", "Emeka", "Françoise", "Goran", "Hana", "Ines", "Jürgen", "陽子",
    ]
    static let family = ["Ackermann", "Böll", "Castellano", "Dubois", "Eze", "Fujita", "Grünwald", "Hooper"]
    static let changes = [
        "fix use after free when probe fails", "drop a redundant check", "use the managed clock helper",
        "convert to scoped cleanup", "add support for the second port", "don't sleep under the lock",
        "return -EINVAL & log it", "handle count < 0", "describe \"reset-gpios\" → optional",
    ]
    static let sentences = [
        "The error path frees the buffer before the interrupt is disabled, so the handler may touch it once more.",
        "No functional change intended.", "This was found by reading the code, not by running it.",
        "Since the callback can't fail, the return value is of no use & is dropped.",
        "Tested on two boards with depth > 4 and count < 16.", "I'd rather see this split into two patches.",
        "The clock is on by then, so <linux/clk.h> is enough.", "Could you say in the log why the lock is needed?",
        "Looks good to me; one nit below.", "Without it the device stays asleep after resume — at times for minutes.",
    ]
}

/// SplitMix64: enough for invented mails, and the same everywhere.
private struct Mixer {
    private var state: UInt64

    init(seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }

    mutating func one<T>(of list: [T]) -> T { list[below(list.count)] }

    static func hex(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
