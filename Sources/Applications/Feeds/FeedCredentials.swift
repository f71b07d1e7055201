import FoundationEssentials

/// The user information of a feed's URL. It is for the feed's server alone: printed, dumped or put into a text it says
/// nothing of itself.
package struct FeedCredentials: Sendable, Equatable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    /// The value of an Authorization header of the Basic scheme (RFC 7617 section 2).
    let authorization: String

    /// - Parameters:
    ///   - user: not percent-encoded. With a colon in it the server would take its rest for the password.
    ///   - password: not percent-encoded.
    /// - Returns: nil when the Basic scheme cannot say it.
    package init?(user: String, password: String) {
        let isControl = { (byte: UInt8) in byte < 0x20 || byte == 0x7F }
        guard !user.contains(":"), !(user + password).utf8.contains(where: isControl) else { return nil }
        authorization = "Basic " + Data("\(user):\(password)".utf8).base64EncodedString()
    }

    package var description: String { "credentials" }
    package var debugDescription: String { description }
    package var customMirror: Mirror { Mirror(self, children: []) }
}
