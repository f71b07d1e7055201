import Cryptography
import Operation
import QUIC
import Reactor

/// How a receiver that is asked for it shows that it may receive (docs/objects.md, "Access"): a token on the first unidirectional
/// stream that it opens.
enum Access {
    /// The stream that the token comes on. A source that asks for one lets its receivers open one, others let them open none.
    static let stream = StreamID(initiator: .client, bidirectional: false, index: 0)
    /// The source's CONNECTION_CLOSE frame to who may not receive.
    static let refusal: UInt64 = 0x18
    /// How long a receiver may take from the handshake on.
    static let patience = Duration.seconds(3)
    /// Things that may happen on a connection meanwhile.
    static let heldEvents = 32
}

/// A bearer's token, as it is in a receiver's file.
package struct AccessToken: Sendable, Equatable {
    package let octets: [UInt8]

    /// Octets of a token: fewer could be guessed.
    static let lengths = 16...512

    /// Visible ASCII; nil for what is none.
    init?(_ text: some StringProtocol) {
        guard Self.lengths.contains(text.utf8.count), text.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
            return nil
        }
        octets = Array(text.utf8)
    }

    /// - Throws: `EndpointError` for a file that cannot be read, that others can read, or that holds no token and nothing else.
    package init(file: String) throws {
        let lines = try privateLines(of: file)
        guard lines.count == 1, let token = Self(lines[0].text) else {
            throw EndpointError(
                "\(file) does not hold one token: a line of \(Self.lengths.lowerBound) to \(Self.lengths.upperBound) visible ASCII characters"
            )
        }
        self = token
    }
}

/// Who may receive. Of tokens only digests are kept.
package struct AccessList: Sendable, Equatable {
    /// A token that is known.
    package struct Holder: Sendable, Equatable {
        /// What the operator calls it.
        package let name: String
        let digest: SHA256Digest
    }

    package let holders: [Holder]

    /// A file with a name and a token on each line. Lines that begin with `#` are comments.
    /// - Throws: `EndpointError` for a file that cannot be read, that others can read, or that has a line of another form.
    package init(file: String) throws {
        var holders: [Holder] = []
        for (line, text) in try privateLines(of: file) {
            let words = text.split { $0 == " " || $0 == "\t" }
            guard words.count == 2, let token = AccessToken(words[1]) else {
                throw EndpointError(
                    "\(file):\(line): a line is a name and a token of \(AccessToken.lengths.lowerBound) to \(AccessToken.lengths.upperBound) visible ASCII characters"
                )
            }
            let digest = SHA256Digest(of: token.octets)
            guard !holders.contains(where: { $0.name == words[0] || $0.digest == digest }) else {
                throw EndpointError("\(file):\(line): the name or the token is there twice")
            }
            holders.append(Holder(name: String(words[0]), digest: digest))
        }
        self.holders = holders
    }

    /// Whose token it is. The time that it takes tells nothing of the tokens that are known.
    func holder(of token: [UInt8]) -> Holder? {
        let digest = SHA256Digest(of: token).octets
        var found: Holder?
        for holder in holders {
            var difference: UInt8 = 0
            for (a, b) in zip(holder.digest.octets, digest) { difference |= a ^ b }
            if difference == 0 { found = holder }
        }
        return found
    }
}

/// The lines of a file of secrets that are neither empty nor comments, each with its number.
private func privateLines(of path: String) throws -> [(line: Int, text: Substring)] {
    guard let status = try StoredFile.status(of: path), let bytes = try StoredFile.read(path, limit: 4 << 20) else {
        throw EndpointError("there is no file \(path)")
    }
    guard status.mode & 0o077 == 0 else {
        throw EndpointError("\(path) can be read by others, who would have the tokens in it: chmod 600 \(path)")
    }
    let lines = String(decoding: bytes, as: UTF8.self).split(omittingEmptySubsequences: false) { $0.isNewline }
    return lines.enumerated().compactMap { index, line in
        let start = line.drop { $0 == " " || $0 == "\t" }
        let end = start.lastIndex { $0 != " " && $0 != "\t" }
        guard let end, start.first != "#" else { return nil }
        return (index + 1, start[...end])
    }
}
