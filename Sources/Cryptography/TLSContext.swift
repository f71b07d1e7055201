import CShims
import QUIC
import Wire

/// Why a TLS context could not be made; the text names the file or value at fault.
public struct TLSConfigurationError: Error, Equatable, CustomStringConvertible {
    public var description: String

    init(_ description: String) { self.description = description }
}

/// What the TLS handshakes of many connections share: certificate, trust, application protocols.
///
/// It wraps an OpenSSL context and, like the sessions made from it, belongs to one thread at a time.
@safe public final class TLSContext {
    /// Whom a client believes.
    public enum Trust: Sendable, Equatable {
        /// The certificates in a PEM file, be they authorities or the server's own.
        case file(String)
        /// A server that has one of these certificates, whatever name and dates are in it.
        case pinned([CertificateFingerprint])
        /// The authorities that the system trusts.
        case system
        /// Anybody: the connection is then open to whoever sits in between.
        case none
    }

    /// The end of connections that it is for.
    public let role: Role
    let context: OpaquePointer
    let keyLog: KeyLog?
    /// Application protocols, the preferred first.
    let alpn: [String]

    private init(role: Role, alpn: [String], suites: [CipherSuite], keyLog: String?) throws(TLSConfigurationError) {
        guard !alpn.isEmpty, alpn.allSatisfy({ (1...255).contains($0.utf8.count) }) else {
            throw TLSConfigurationError("QUIC needs application protocol names of 1 to 255 octets")
        }
        guard !suites.isEmpty else { throw TLSConfigurationError("no cipher suite is allowed") }
        let log: KeyLog? = if let keyLog { try KeyLog(path: keyLog) } else { nil }
        let wire = alpn.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
        let names = suites.map(\.name).joined(separator: ":")
        var events = TLSSession.events
        let context = try unsafe Self.attempt("TLS") { text in
            unsafe fc_tls_context_new(role == .server ? 1 : 0, &events, names, wire, wire.count, text)
        }
        self.role = role
        self.alpn = alpn
        unsafe self.context = context
        self.keyLog = log
    }

    deinit { unsafe fc_tls_context_free(context) }

    /// Appends the secret of a multicast flow to the key log, if there is one, in a line of its own kind: the flow's ID stands where
    /// the others have a client random, and the label ends with the suite's code point. Wireshark's own dissectors pass it over.
    public func logFlowSecret(_ secret: [UInt8], of flow: ConnectionID, suite: CipherSuite) {
        guard let keyLog else { return }
        keyLog.append("FLEXICAST_FLOW_SECRET_\(String(suite.rawValue, radix: 16)) \(flow) \(secret.hexadecimal)")
    }

    /// A server's context with a certificate chain and its key from PEM files.
    ///
    /// - Parameters:
    ///   - certificateFile: the path of the chain, the server's own certificate first.
    ///   - keyFile: the path of the private key, which must belong to that certificate.
    ///   - alpn: application protocols in order of preference; a client must offer one of them (RFC 9000 section 7, RFC
    ///     9001 section 8.1).
    ///   - suites: cipher suites that may be agreed on; others that a client offers are passed over (RFC 9001 section 5.3).
    ///   - keyLog: a file to which secrets are appended in NSS format, for debugging tools to decrypt with.
    public static func server(
        certificateFile: String, keyFile: String, alpn: [String], suites: [CipherSuite] = CipherSuite.allCases,
        keyLog: String? = nil
    ) throws(TLSConfigurationError) -> TLSContext {
        let context = try TLSContext(role: .server, alpn: alpn, suites: suites, keyLog: keyLog)
        try unsafe context.attempt("cannot use certificate file \(certificateFile)") { context, text in
            unsafe fc_tls_context_use_certificate(context, certificateFile, text)
        }
        do {
            try unsafe context.attempt("cannot use key file \(keyFile)") { context, text in
                unsafe fc_tls_context_use_key(context, keyFile, text)
            }
        } catch  where error.description.contains("mismatch") {
            throw TLSConfigurationError("key file \(keyFile) does not belong to certificate file \(certificateFile)")
        }
        return context
    }

    /// A server's context with a certificate and its key. Parameters as above.
    public static func server(
        _ pem: CertificatePEM, alpn: [String], suites: [CipherSuite] = CipherSuite.allCases, keyLog: String? = nil
    ) throws(TLSConfigurationError) -> TLSContext {
        let context = try TLSContext(role: .server, alpn: alpn, suites: suites, keyLog: keyLog)
        try unsafe context.attempt("cannot use a certificate") { context, text in
            unsafe fc_tls_context_use_pem(context, pem.certificate, pem.key, text)
        }
        return context
    }

    /// A server's context with a certificate of its own making, valid for `names` (host names or IP addresses). Its
    /// `certificatePEM` is what a client has to trust.
    public static func server(
        selfSignedFor names: [String], alpn: [String], suites: [CipherSuite] = CipherSuite.allCases,
        keyLog: String? = nil
    ) throws(TLSConfigurationError) -> TLSContext {
        try server(CertificatePEM(selfSignedFor: names), alpn: alpn, suites: suites, keyLog: keyLog)
    }

    /// A client's context. Parameters as for `server`.
    public static func client(
        trust: Trust, alpn: [String], suites: [CipherSuite] = CipherSuite.allCases, keyLog: String? = nil
    ) throws(TLSConfigurationError) -> TLSContext {
        let context = try TLSContext(role: .client, alpn: alpn, suites: suites, keyLog: keyLog)
        // Whom the server's certificate has to satisfy (RFC 9001 section 4.4); nobody, if so asked.
        switch trust {
        case .file(let path):
            try unsafe context.attempt("cannot use trust file \(path)") { context, text in
                unsafe fc_tls_context_trust_file(context, path, text)
            }
        case .system:
            try unsafe context.attempt("cannot use the system's authorities") { context, text in
                unsafe fc_tls_context_trust_system(context, text)
            }
        case .pinned(let fingerprints):
            let octets = fingerprints.flatMap(\.octets)
            try unsafe context.attempt("cannot use fingerprints") { context, text in
                unsafe fc_tls_context_trust_pins(context, octets, fingerprints.count, text)
            }
        case .none: break
        }
        return context
    }

    /// The server's own certificate in PEM, without its chain.
    public var certificatePEM: String {
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: 65536) { buffer, count in
            count = unsafe buffer.withMemoryRebound(to: CChar.self) { buffer in
                unsafe fc_tls_context_certificate(context, buffer.baseAddress, buffer.count)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// What the server's own certificate says; nil when there is none.
    public var certificateFacts: CertificateFacts? {
        var octets = [UInt8](repeating: 0, count: Int(FC_TLS_FINGERPRINT))
        var from: Int64 = 0
        var until: Int64 = 0
        guard unsafe fc_tls_context_facts(context, &octets, &from, &until) == 0 else { return nil }
        return CertificateFacts(
            fingerprint: CertificateFingerprint(octets: octets), validFrom: from, validUntil: until)
    }

    /// Seals tickets with keys that come from `secret`, 32 octets: what one process began another one with the same secret
    /// resumes (RFC 8446 section 4.6.1). Without it no other can.
    public func useTicketKeys(from secret: [UInt8]) {
        let keys = (0..<3).flatMap { HKDF.expandLabel(.sha256, secret: secret, "ticket \($0)", length: 32) }
        let result = unsafe fc_tls_context_use_ticket_keys(context, Array(keys.prefix(Int(FC_TLS_TICKET_KEYS))))
        precondition(result == 0, "OpenSSL refused ticket keys")
    }

    /// Restricts the key exchange to groups named as in OpenSSL and joined by colons.
    func useGroups(_ groups: String) throws(TLSConfigurationError) {
        guard unsafe fc_tls_context_use_groups(context, groups) == 0 else {
            throw TLSConfigurationError("OpenSSL does not offer the groups \(groups)")
        }
    }

    private func attempt(
        _ what: String, _ body: (OpaquePointer, UnsafeMutablePointer<CChar>) -> Int32
    ) throws(TLSConfigurationError) {
        _ = try unsafe Self.attempt(what) { text in
            unsafe body(context, text) == 0 ? context : nil
        }
    }

    /// Runs `body` with room for a text, and throws that text when it returns nil.
    private static func attempt(
        _ what: String, _ body: (UnsafeMutablePointer<CChar>) -> OpaquePointer?
    ) throws(TLSConfigurationError) -> OpaquePointer {
        var text = [CChar](repeating: 0, count: Int(FC_TLS_TEXT))
        guard let value = unsafe text.withUnsafeMutableBufferPointer({ unsafe body($0.baseAddress!) }) else {
            throw TLSConfigurationError("\(what): \(string(text))")
        }
        return unsafe value
    }

    static func string(_ text: [CChar]) -> String {
        String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

extension CipherSuite {
    /// The name in the TLS registry.
    public var name: String {
        switch self {
        case .aes128GCM: "TLS_AES_128_GCM_SHA256"
        case .aes256GCM: "TLS_AES_256_GCM_SHA384"
        case .chaCha20Poly1305: "TLS_CHACHA20_POLY1305_SHA256"
        }
    }
}
