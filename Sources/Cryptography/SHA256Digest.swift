import CShims

/// SHA-256 (FIPS 180-4): what items and their files are named and compared by.
public struct SHA256Digest: Hashable, Sendable, CustomStringConvertible {
    /// 32 octets.
    public let octets: [UInt8]

    /// The digest of `data`.
    public init(of data: [UInt8]) {
        var octets = [UInt8](repeating: 0, count: 32)
        let result = unsafe fc_sha256(data, data.count, &octets)
        precondition(result == 0, "OpenSSL refused SHA-256")
        self.octets = octets
    }

    /// 64 lower-case hexadecimal digits.
    public var description: String { octets.hexadecimal }
}

extension [UInt8] {
    /// Two lower-case hexadecimal digits for each octet.
    var hexadecimal: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
