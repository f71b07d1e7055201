import FoundationEssentials
import Glibc

/// Something the system refused.
package struct SystemError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The system's words for it.
    package let reason: String
    package let description: String

    /// - Parameter code: an errno, or a negative one.
    package init(_ action: String, code: Int32) { self.init(action, reason: systemText(code)) }

    init(_ action: String, reason: String) {
        self.reason = reason
        description = "cannot \(action): \(reason)"
    }
}

/// The system's words for an errno, or a negative one.
package func systemText(_ code: Int32) -> String {
    guard let text = unsafe strerror(abs(code)) else { return "error \(code)" }
    return unsafe String(cString: text)
}

/// Does what Foundation does with files, and puts what is wrong with them into the system's words.
package func saying<R>(_ action: String, _ body: () throws -> R) throws(SystemError) -> R {
    do { return try body() } catch {
        guard let cause = (error as? CocoaError)?.underlying as? POSIXError else {
            throw SystemError(action, reason: "\(error)")
        }
        throw SystemError(action, code: cause.code.rawValue)
    }
}

/// Makes a directory and those that it is in, as far as they are missing.
package func makeDirectories(_ path: String) throws(SystemError) {
    try saying("make the directory \(path)") {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
}
