import Glibc

/// A file that gets the secrets of every connection, one NSS key log line each, so that tools such as Wireshark can
/// decrypt a capture. Only its owner can read it.
final class KeyLog {
    private let descriptor: Int32

    init(path: String) throws(TLSConfigurationError) {
        descriptor = unsafe open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw TLSConfigurationError(
                "cannot append to key log file \(path): \(unsafe String(cString: strerror(errno)))")
        }
    }

    deinit { close(descriptor) }

    /// Appends `line`. A full disk loses the line and nothing else.
    func append(_ line: String) {
        let bytes = Array((line + "\n").utf8)
        // One call for one line: lines of several processes then do not mix.
        _ = unsafe write(descriptor, bytes, bytes.count)
    }
}
