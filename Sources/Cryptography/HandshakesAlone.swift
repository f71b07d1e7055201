import CShims
import QUIC

/// TLS 1.3 handshakes as OpenSSL does them by itself, client and server in memory and without QUIC: what the handshakes
/// of `SecureConnection` are measured against. It has the certificate and the key of a server's context.
@safe public final class HandshakesAlone {
    private let alone: OpaquePointer
    private let server: TLSContext

    /// - Parameters:
    ///   - server: a server's context.
    ///   - suites: those that either end offers, the preferred one first.
    /// - Throws: `TLSConfigurationError` when OpenSSL does not take them.
    public init(_ server: TLSContext, suites: [CipherSuite] = CipherSuite.allCases) throws(TLSConfigurationError) {
        precondition(server.role == .server)
        guard
            let alone = unsafe fc_tls_alone_new(server.context, suites.map(\.name).joined(separator: ":"))
        else { throw TLSConfigurationError("OpenSSL alone does not take the server's certificate and suites") }
        unsafe self.alone = alone
        self.server = server
    }

    deinit { unsafe fc_tls_alone_free(alone) }

    /// One handshake, until the client holds a ticket: whether it was resumed. Nil when it failed.
    public func handshake(resuming: Bool) -> Bool? {
        let outcome = unsafe fc_tls_alone_handshake(alone, resuming ? 1 : 0)
        return outcome < 0 ? nil : outcome == 1
    }
}
