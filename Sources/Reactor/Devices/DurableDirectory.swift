import CShims

/// A file operation that failed, in words a person at the command line can act on.
public struct FileError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What was tried, such as "write".
    public let operation: String
    /// What it was tried on.
    public let path: String
    /// The system's error number; 0 when the refusal is our own.
    public let code: Int32
    /// Why it failed: the system's words for `code`, or our own.
    public let reason: String

    init(_ operation: String, _ path: String, code: Int32) {
        self.operation = operation
        self.path = path
        self.code = abs(code)
        reason = ReactorError.text(code)
    }

    /// A refusal of our own: `code` is 0.
    public init(_ operation: String, _ path: String, reason: String) {
        self.operation = operation
        self.path = path
        code = 0
        self.reason = reason
    }

    public var description: String { "cannot \(operation) \(path): \(reason)" }
}

/// What tells one version of a file from another without reading it.
public struct FileStatus: Sendable, Equatable {
    /// Octets.
    public var size: UInt64
    /// The number of the inode: another file under the same name has another.
    var inode: UInt64
    /// Nanoseconds since 1970.
    public var modified: Int64
    /// Not a directory, a pipe or a device.
    public var isRegular: Bool
    /// Permissions, as chmod takes them.
    public var mode: UInt32
}

/// A directory whose files are each whole or absent, whenever the process or the machine stops: a file is written
/// under a temporary name, made durable, and then renamed. Every call blocks until the disk has answered.
public final class DurableDirectory: Sendable {
    /// As it was opened with.
    public let path: String
    private let descriptor: Int32

    /// How the names of files begin that are being written.
    public static let temporaryPrefix = ".flexicast-tmp-"

    /// Opens an existing directory for this process alone: a second one that opened it would take the first one's
    /// temporary files for leftovers.
    public init(path: String) throws(FileError) {
        let result = unsafe fc_directory_open(path, true)
        guard result != -11 else {
            throw FileError("use", path, reason: "another process is using this directory")
        }
        guard result >= 0 else { throw FileError("open", path, code: result) }
        self.path = path
        descriptor = result
    }

    deinit { fc_directory_close(descriptor) }

    /// Lets another process use the directory from now on. Nothing may be written any more.
    public func unlock() { fc_directory_unlock(descriptor) }

    /// Replaces `name` as a whole and makes that durable. `isPrivate`: for nobody else to read (mode 0600).
    public func write(_ bytes: [UInt8], as name: String, isPrivate: Bool = false) throws(FileError) {
        try prepare(bytes, as: name, isPrivate: isPrivate)
        try publish(name)
        try sync()
    }

    /// The first step of `write`: the content is on disk under a temporary name.
    public func prepare(_ bytes: [UInt8], as name: String, isPrivate: Bool = false) throws(FileError) {
        let result = unsafe fc_file_write(descriptor, Self.temporaryPrefix + name, bytes, bytes.count, isPrivate)
        guard result >= 0 else { throw FileError("write", "\(path)/\(name)", code: result) }
    }

    /// The second step: the file has its name.
    public func publish(_ name: String) throws(FileError) { try rename(Self.temporaryPrefix + name, to: name) }

    /// The third step, one for many files: the names are on disk.
    public func sync() throws(FileError) {
        let result = fc_directory_sync(descriptor)
        guard result >= 0 else { throw FileError("write", path, code: result) }
    }

    /// Takes the place of a file named `other`, if there is one. The names are on disk after `sync`.
    public func rename(_ name: String, to other: String) throws(FileError) {
        let result = unsafe fc_file_rename(descriptor, name, other)
        guard result >= 0 else { throw FileError("rename", "\(path)/\(name)", code: result) }
    }

    /// That there is no such file is no error.
    public func remove(_ name: String) throws(FileError) {
        let result = unsafe fc_file_remove(descriptor, name)
        guard result >= 0 || result == -2 else { throw FileError("remove", "\(path)/\(name)", code: result) }
    }

    /// Nil when there is no such file.
    public func status(of name: String) throws(FileError) -> FileStatus? {
        try StoredFile.status(name, in: descriptor, path: "\(path)/\(name)")
    }

    /// The file's content; nil when there is no such file.
    public func read(_ name: String, limit: Int) throws(FileError) -> [UInt8]? {
        try StoredFile.read(name, in: descriptor, path: "\(path)/\(name)", limit: limit)
    }
}

/// Files anywhere, by path.
public enum StoredFile {
    /// Nil when there is no such file.
    public static func status(of path: String) throws(FileError) -> FileStatus? {
        try status(path, in: FC_WORKING_DIRECTORY, path: path)
    }

    /// The content of a regular file of at most `limit` octets; nil when there is no such file.
    public static func read(_ path: String, limit: Int) throws(FileError) -> [UInt8]? {
        try read(path, in: FC_WORKING_DIRECTORY, path: path, limit: limit)
    }

    static func status(_ name: String, in directory: Int32, path: String) throws(FileError) -> FileStatus? {
        var status = fc_file_status()
        let result = unsafe fc_file_status(directory, name, &status)
        if result == -2 { return nil }
        guard result >= 0 else { throw FileError("read", path, code: result) }
        return FileStatus(
            size: status.size, inode: status.inode, modified: status.modified, isRegular: status.regular,
            mode: status.mode)
    }

    static func read(_ name: String, in directory: Int32, path: String, limit: Int) throws(FileError) -> [UInt8]? {
        guard let status = try status(name, in: directory, path: path) else { return nil }
        guard status.isRegular else { throw FileError("read", path, reason: "this is not a regular file") }
        guard status.size <= UInt64(limit) else {
            throw FileError("read", path, reason: "it has \(status.size) bytes, more than the limit of \(limit)")
        }
        // One octet more than there should be, so that a file that grows meanwhile is noticed.
        let room = Int(status.size) + 1
        var result: Int64 = 0
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: room) { buffer, count in
            result = unsafe fc_file_read(directory, name, buffer.baseAddress, room)
            count = Int(max(0, result))
        }
        if result == -2 { return nil }
        guard result >= 0 else { throw FileError("read", path, code: Int32(result)) }
        guard bytes.count < room else { throw FileError("read", path, reason: "it is being written to") }
        return bytes
    }
}
