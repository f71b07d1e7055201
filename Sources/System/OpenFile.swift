import CShims
import Glibc
import Synchronization

/// A file or an end of a pipe. Closed when nobody has it any more, but for the standard streams.
package final class OpenFile: Sendable {
    package let descriptor: Int32
    private let isOpen: Mutex<Bool>

    package static let standardOutput = OpenFile(descriptor: STDOUT_FILENO, isOurs: false)
    package static let standardError = OpenFile(descriptor: STDERR_FILENO, isOurs: false)

    private init(descriptor: Int32, isOurs: Bool) {
        self.descriptor = descriptor
        isOpen = Mutex(isOurs)
    }

    /// A descriptor that is the caller's to give away.
    package init(owning descriptor: Int32) {
        self.descriptor = descriptor
        isOpen = Mutex(true)
    }

    /// Makes a file, or empties it.
    package init(creating path: String) throws(SystemError) {
        let opened = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
        guard opened >= 0 else { throw SystemError("write \(path)", code: errno) }
        descriptor = opened
        isOpen = Mutex(true)
    }

    deinit { close() }

    /// Both ends of a new pipe.
    package static func pipe() throws(SystemError) -> (reading: OpenFile, writing: OpenFile) {
        var ends: [Int32] = [-1, -1]
        let result = unsafe fc_pipe(&ends)
        guard result == 0 else { throw SystemError("make a pipe", code: result) }
        return (OpenFile(descriptor: ends[0], isOurs: true), OpenFile(descriptor: ends[1], isOurs: true))
    }

    package func close() {
        isOpen.withLock { isOpen in
            if isOpen { fc_close(descriptor) }
            isOpen = false
        }
    }

    /// Lines and columns, if it is a terminal and knows.
    package var terminalSize: (lines: Int, columns: Int)? {
        var (lines, columns): (Int32, Int32) = (0, 0)
        return unsafe fc_terminal_size(descriptor, &lines, &columns) ? (Int(lines), Int(columns)) : nil
    }

    /// Waits for something to read.
    /// - Returns: what there is; nothing at the end.
    package func read() -> [UInt8] {
        unsafe [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, count in
            count = unsafe max(0, Int(fc_read(descriptor, buffer.baseAddress, buffer.count)))
        }
    }

    /// Reads until the end.
    package func readToEnd() -> [UInt8] {
        var all: [UInt8] = []
        while case let piece = read(), !piece.isEmpty { all += piece }
        return all
    }

    /// Writes all of `bytes`, and waits for that.
    package func write(_ bytes: [UInt8]) throws(SystemError) {
        let result = unsafe fc_write(descriptor, bytes, bytes.count)
        guard result == 0 else { throw SystemError("write", code: result) }
    }
}
