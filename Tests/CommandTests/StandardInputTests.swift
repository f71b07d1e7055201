import Foundation
import TestSupport
import Testing

/// A socket that listens may be handed over as standard input; what else is there is refused with a word on what it has to be.
@Suite struct StandardInputTests {
    private static let program = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        .deletingLastPathComponent().appending(path: "flexicast").path

    @Test func aPipeIsNoPlaceForPages() throws {
        let directory = try TemporaryDirectory()
        let feed = directory.url.appending(path: "feed.atom")
        try Data().write(to: feed)
        let result = try run(
            Self.program, ["source", "--feed", feed.path, "--listen", "127.0.0.1:0", "--metrics", "-"])
        #expect(result.status == 1)
        #expect(result.errors.contains("a TCP socket that listens"), "\(result)")
    }
}
