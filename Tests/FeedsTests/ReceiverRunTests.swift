import Logging
import Testing

@testable import Feeds

/// How a run of `flexicast receive` ends.
@Suite struct ReceiverRunTests {
    /// Exit statuses of the contract: nobody there is a failure, not a short count.
    @Test func noSourceIsAFailure() throws {
        var options = ReceiverOptions(host: "127.0.0.1", port: 9)
        options.trust = .anyone
        options.timeout = .milliseconds(300)
        options.count = 1
        #expect(try runReceiver(options, log: Logger(label: "quiet", factory: { _ in SwiftLogNoOpLogHandler() })) == 1)
    }
}
