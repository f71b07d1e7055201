import FoundationEssentials
import Objects

/// Where a distributed log is: a stream of NATS JetStream.
package struct LogPlace: Sendable, Equatable {
    /// `nats://HOST:PORT`, each once.
    package var servers: [String]
    /// Name of the stream.
    package var stream: String
    /// PEM file of the authorities that are trusted; with it connections are by TLS.
    package var authorities: String?
    /// File with who we are: NATS credentials (a JWT and its seed), a line USER:PASSWORD, or a token.
    package var credentials: String?

    private static let scheme = "nats://"
    private static let usualPort = 4222

    /// `nats://HOST[:PORT][,HOST[:PORT]…]/STREAM`.
    /// - Throws: what is wrong with it.
    package init(_ text: String) throws(LogStoreError) {
        let form = "write nats://HOST[:PORT],HOST[:PORT]/STREAM"
        guard text.hasPrefix(Self.scheme), let slash = text.dropFirst(Self.scheme.count).firstIndex(of: "/") else {
            throw LogStoreError("this is no log: \(form)")
        }
        stream = String(text[text.index(after: slash)...])
        guard (1...64).contains(stream.utf8.count),
            stream.utf8.allSatisfy({
                $0 == 0x2d || $0 == 0x5f || (0x30...0x39).contains($0) || (0x41...0x5a).contains($0)
                    || (0x61...0x7a).contains($0)
            })
        else { throw LogStoreError("a stream's name has 1 to 64 letters, digits, - and _: \(form)") }
        servers = []
        for host in text[text.index(text.startIndex, offsetBy: Self.scheme.count)..<slash].split(
            separator: ",", omittingEmptySubsequences: false)
        {
            // What is in the address of a log is shown; who we are is not.
            guard !host.isEmpty, !host.contains("@"), !host.contains(where: \.isWhitespace) else {
                throw LogStoreError("a log's servers are hosts without user and password: \(form)")
            }
            let hasPort = host.lastIndex(of: ":").map { !host[$0...].contains("]") } ?? false
            servers.append(Self.scheme + host + (hasPort ? "" : ":\(Self.usualPort)"))
        }
        guard Set(servers).count == servers.count else { throw LogStoreError("a server of the log is given twice") }
    }

    /// The subject that objects are appended to.
    package var subject: String { "flexicast.\(stream)" }
    /// The bucket of who may poll.
    var leaseBucket: String { "flexicast-\(stream)" }
    /// Copies of the log: three where there are so many servers.
    var replicas: Int { servers.count >= 3 ? 3 : 1 }

    /// Who we are, as the file says it.
    enum Login: Equatable {
        case nobody
        case file(String)
        case user(String, password: String)
        case token(String)
    }

    /// - Throws: when the file cannot be read.
    func login() throws(LogProblem) -> Login {
        guard let credentials else { return .nobody }
        guard let data = try? Data(contentsOf: URL(filePath: credentials)), data.count <= 64 << 10 else {
            throw LogProblem(.refused, "\(credentials) cannot be read")
        }
        let text = String(decoding: data, as: UTF8.self)
        if text.contains("-----BEGIN NATS USER JWT-----") { return .file(credentials) }
        let line = String(text.prefix { !$0.isNewline })
        guard !line.isEmpty else { throw LogProblem(.refused, "\(credentials) is empty") }
        guard let colon = line.firstIndex(of: ":") else { return .token(line) }
        return .user(String(line[..<colon]), password: String(line[line.index(after: colon)...]))
    }
}

extension LogPlace: CustomStringConvertible {
    package var description: String {
        Self.scheme + servers.map { $0.dropFirst(Self.scheme.count) }.joined(separator: ",") + "/" + stream
    }
}

/// Why a distributed log cannot be used now.
package struct LogProblem: Error, Equatable, Sendable, CustomStringConvertible {
    package enum Kind: String, Sendable {
        /// No server answers, or none that could help.
        case unreachable
        /// Credentials or certificates are not accepted.
        case refused
        /// There is no such stream.
        case missing
        /// Somebody else was faster.
        case taken
        /// There is no room for another object.
        case full
        /// An object that it never takes.
        case unacceptable
        /// Its newest messages are gone, so that numbers could be given twice.
        case setBack = "set_back"
    }
    package var kind: Kind
    /// In words.
    package var reason: String

    init(_ kind: Kind, _ reason: String) {
        self.kind = kind
        self.reason = reason
    }
    package var description: String { reason }
}
