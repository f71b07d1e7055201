import Glibc

/// A system call that failed, in words a person at the command line can act on.
public struct ReactorError: Error, Sendable, CustomStringConvertible {
    /// The call that failed, such as `bind`.
    public let call: String
    /// What it was asked for: an address, a group, an interface.
    public let subject: String
    /// The system's error number, 0 when the refusal is our own.
    public let code: Int32
    /// What was wrong.
    public let reason: String
    /// What would do, where that is known.
    public let advice: String?

    /// `code` is an error number; a negative one is taken as returned by CShims.
    init(_ call: String, _ subject: String, code: Int32, advice: String? = nil) {
        self.call = call
        self.subject = subject
        self.code = abs(code)
        self.reason = Self.text(self.code)
        self.advice = advice
    }

    init(_ call: String, _ subject: String, reason: String, advice: String? = nil) {
        self.call = call
        self.subject = subject
        self.code = 0
        self.reason = reason
        self.advice = advice
    }

    public var description: String {
        let problem = subject.isEmpty ? "\(call): \(reason)" : "\(call) \(subject): \(reason)"
        return advice.map { "\(problem); \($0)" } ?? problem
    }

    /// The system's text for an error number, without its sign.
    static func text(_ code: Int32) -> String {
        guard let text = unsafe strerror(abs(code)) else { return "error \(code)" }
        return unsafe String(cString: text)
    }
}
