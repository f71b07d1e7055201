import Feed
import FoundationEssentials
import Reactor
import System

/// The demonstration's feed: a file that grows. A source polls it like any other (`--feed PATH`), and a reader sees the
/// document before or after a change, never half of it.
package struct SampleFeedFile: Sendable {
    package let path: String

    package init(path: String) { self.path = path }

    /// Makes the file hold the sample feed after `count` items, of which the newest `window` are in the document.
    package func publish(upTo count: Int, window: Int = 100) throws(FileError) {
        let document = Data(SampleFeed.document(upTo: count, window: window))
        do throws(SystemError) {
            try saying("write \(path)") { try document.write(to: URL(filePath: path), options: .atomic) }
        } catch { throw FileError("write", path, reason: error.reason) }
    }
}
