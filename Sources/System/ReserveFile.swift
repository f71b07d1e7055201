import CShims
import Wire

/// Room on a disk that is given up when nothing else is left, so that something small can still be written.
struct ReserveFile: Sendable {
    /// Octets of the file.
    static let octets = 1 << 20

    private let path: String
    /// The room is there.
    private(set) var isKept = false
    /// It is not tried all the time.
    private var due = Instant(nanoseconds: 0)
    private static let pause = Duration.seconds(5)

    init(_ path: String) { self.path = path }

    /// Takes the room, if there is so much.
    mutating func keep(at now: Instant) {
        guard !isKept, now >= due else { return }
        // Not zeros, which some file systems store as nothing.
        let filling = [UInt8](repeating: 0xa5, count: Self.octets)
        isKept = unsafe fc_file_write(FC_WORKING_DIRECTORY, path, filling, filling.count, true) == 0
        if !isKept { due = now + Self.pause }
    }

    /// Gives the room up.
    mutating func release() {
        _ = unsafe fc_file_remove(FC_WORKING_DIRECTORY, path)
        isKept = false
    }
}
