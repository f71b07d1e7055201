import CShims
import Glibc
import Objects

/// A directory that this process alone uses, for as long as the value lives.
struct DirectoryLock: ~Copyable {
    private let path: String
    private let descriptor: Int32

    /// Makes the directory when it is missing. Throws when that fails, or another process, or another part of this one, has
    /// the directory.
    init(_ path: String) throws(LogStoreError) {
        do throws(SystemError) {
            try makeDirectories(path)
        } catch { throw LogStoreError("the directory \(path) cannot be made: \(error.reason)") }
        let result = unsafe fc_directory_open(path, true)
        guard result != -EWOULDBLOCK else {
            throw LogStoreError(
                "\(path) is in use by another process; end that one, or give each source a directory of its own")
        }
        guard result >= 0 else {
            throw LogStoreError("the directory \(path) cannot be opened: \(systemText(result))")
        }
        self.path = path
        descriptor = result
    }

    deinit {
        // Closing alone would not do while a process that was just forked still has the descriptor as well.
        fc_directory_unlock(descriptor)
        fc_directory_close(descriptor)
    }

    /// Makes the names of the files in the directory durable.
    func sync() throws(LogStoreError) {
        let result = fc_directory_sync(descriptor)
        guard result >= 0 else { throw LogStoreError("\(path) cannot be written: \(systemText(result))") }
    }
}
