import Reactor

/// What a receiver has to know as it starts, in one file that is replaced as a whole: where it is in the source's log, and
/// which items are on disk that `feed.atom` may lack.
///
///     flexicast position 1 OCTETS
///     the position, so many octets, then names of items' files, one a line
struct StoredPlace: Equatable {
    static let name = "position"
    /// Octets of the file.
    static let most = 1 << 20
    private static let heading = "flexicast position 1 "

    var position: [UInt8]
    /// Nil in a file of an earlier version, which is the position alone.
    var unlisted: [String]?

    /// Nil when there is none.
    static func read(_ directory: DurableDirectory) throws(FileError) -> StoredPlace? {
        try directory.read(name, limit: most).map { StoredPlace($0) }
    }

    init(position: [UInt8], unlisted: [String]?) {
        self.position = position
        self.unlisted = unlisted
    }

    init(_ file: [UInt8]) {
        self.init(position: file, unlisted: nil)
        guard file.starts(with: Self.heading.utf8), let end = file.firstIndex(of: 10) else { return }
        let count = Int(String(decoding: file[Self.heading.utf8.count..<end], as: UTF8.self))
        guard let count, count >= 0, count < file.count - end else { return }
        position = Array(file[(end + 1)...(end + count)])
        unlisted = file[(end + 1 + count)...].split(separator: 10).map { String(decoding: $0, as: UTF8.self) }
    }

    func write(to directory: DurableDirectory) throws(FileError) {
        let names = (unlisted ?? []).map { $0 + "\n" }.joined()
        try directory.write(Array("\(Self.heading)\(position.count)\n".utf8) + position + names.utf8, as: Self.name)
    }
}
