import CShims
import Foundation
import Objects

/// A directory that this process alone uses, for as long as the value lives.
struct DirectoryLock: ~Copyable {
    private let path: String
    private let descriptor: Int32

    /// Makes the directory when it is missing. Throws when that fails, or another process, or another part of this one, has
    /// the directory.
    init(_ path: String) throws(LogStoreError) {
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        } catch {
            let cause = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError
            throw LogStoreError(
                "the directory \(path) cannot be made: \(cause?.localizedDescription ?? error.localizedDescription)")
        }
        let result = unsafe fc_directory_open(path, true)
        guard result != -EWOULDBLOCK else {
            throw LogStoreError(
                "\(path) is in use by another process; end that one, or give each source a directory of its own")
        }
        guard result >= 0 else {
            throw LogStoreError("the directory \(path) cannot be opened: \(Database.systemText(result))")
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
        guard result >= 0 else { throw LogStoreError("\(path) cannot be written: \(Database.systemText(result))") }
    }
}
