/// What of a feed's address others may see.
///
/// User information is a secret (RFC 3986 section 3.2.1), and a query often holds one: a token that whoever has it reads
/// the feed with.
public enum PublicAddress {
    /// `address` without its user information, all else as written. For requests.
    ///
    /// - Parameter address: a URL or a reference (RFC 3986 section 4.1).
    public static func withoutUserInformation(_ address: String) -> String {
        guard let authority = authority(of: address), let at = address[authority].lastIndex(of: "@") else {
            return address
        }
        return String(address[..<authority.lowerBound] + address[address.index(after: at)...])
    }

    /// `address` without its user information, query and fragment. For documents that go out.
    public static func published(_ address: String) -> String {
        withoutUserInformation(String(address.prefix { $0 != "?" && $0 != "#" }))
    }

    /// As `published`, with "?…" where a query was. For logs and errors.
    public static func redacted(_ address: String) -> String {
        published(address) + (address.prefix { $0 != "#" }.contains("?") ? "?…" : "")
    }

    /// As `redacted`, of what was meant as a URL and is none: an "@" may stand anywhere in its user information.
    public static func redacted(unreadable text: String) -> String {
        guard let colon = text.firstIndex(of: ":"), let at = text.lastIndex(of: "@"), colon < at else {
            return redacted(text)
        }
        return text[...colon] + "//…@" + redacted(String(text[text.index(after: at)...]))
    }

    /// RFC 3986 section 3.2: what follows "//" after the scheme or at the start, up to "/", "?" or "#".
    private static func authority(of address: String) -> Range<String.Index>? {
        guard let slashes = address.firstRange(of: "//"),
            slashes.lowerBound == address.startIndex || address[..<slashes.lowerBound].last == ":"
        else { return nil }
        let end = address[slashes.upperBound...].firstIndex { $0 == "/" || $0 == "?" || $0 == "#" }
        return slashes.upperBound..<(end ?? address.endIndex)
    }
}
