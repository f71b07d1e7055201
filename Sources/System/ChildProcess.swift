import CShims
import Glibc
import Synchronization

/// A child process. It has its standard streams and no other file of ours, and the signals of our terminal do not reach it.
package final class ChildProcess: Sendable {
    package let identifier: Int32
    /// Nil until it was collected. Held while it gets a signal, so that none goes to another process of the same number.
    private let status = Mutex<Int32?>(nil)

    /// A standard stream of the child.
    package enum Stream {
        case null
        case open(OpenFile)

        fileprivate var descriptor: Int32 {
            switch self {
            case .null: -1
            case .open(let file): file.descriptor
            }
        }
    }

    /// Starts `command`, whose first word is a path. What asks to die with its parent dies with the calling thread.
    package init(
        _ command: [String], input: Stream = .null, output: Stream = .null, errors: Stream = .null
    ) throws(SystemError) {
        guard !command.isEmpty, !command.contains(where: { $0.utf8.contains(0) }) else {
            throw SystemError("run \(command.first ?? "")", code: -EINVAL)
        }
        var words = unsafe command.map { unsafe strdup($0) } + [nil]
        defer { unsafe words.forEach { unsafe free($0) } }
        var process: pid_t = 0
        let result = unsafe fc_process_start(
            &words, input.descriptor, output.descriptor, errors.descriptor, &process)
        guard result == 0 else { throw SystemError("run \(command[0])", code: result) }
        identifier = process
    }

    /// Waits until it has ended.
    /// - Returns: its exit status; below 0 the signal that ended it.
    @discardableResult
    package func wait() -> Int32 {
        if let known = status.withLock({ $0 }) { return known }
        _ = fc_process_await(identifier)
        return status.withLock { status in
            if let status { return status }
            var ended: Int32 = 0
            // Somebody else collected it: how it ended is not known.
            if unsafe fc_process_collect(identifier, &ended) < 0 { ended = -SIGKILL }
            status = ended
            return ended
        }
    }

    /// Sends it a signal, unless it has ended.
    package func send(_ signal: Int32) {
        status.withLock { status in
            if status == nil { _ = kill(identifier, signal) }
        }
    }
}
