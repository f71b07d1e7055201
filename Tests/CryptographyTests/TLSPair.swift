import QUIC
import Testing

@testable import Cryptography

/// A client and a server session that talk over perfect CRYPTO streams, cut into chunks.
final class TLSPair {
    final class End {
        let session: TLSSession
        /// Octets not yet delivered to the other end.
        var sent: [(level: ProtectionLevel, bytes: [UInt8])] = []
        var secrets: [String: [UInt8]] = [:]
        var suites: Set<CipherSuite> = []
        var readable: Set<ProtectionLevel> = [.initial]
        var isComplete = false
        var parameters: [UInt8]?
        var tickets: [[UInt8]] = []
        var helloCount = 0
        var error: TransportError?

        init(_ session: TLSSession) { self.session = session }

        func attempt(_ body: () throws(TransportError) -> Void) {
            do { try body() } catch { self.error = error }
            while let output = session.nextOutput() {
                switch output {
                case .handshake(let level, let bytes):
                    sent.append((level, bytes))
                    if level == .initial { helloCount += 1 }
                case .secret(let level, let direction, let suite, let secret):
                    secrets["\(level) \(direction)"] = secret
                    suites.insert(suite)
                    if direction == .read { readable.insert(level) }
                case .transportParameters(let bytes): parameters = bytes
                case .completed: isComplete = true
                case .ticket(let bytes): tickets.append(bytes)
                }
            }
        }
    }

    static let clientParameters: [UInt8] = [1, 2, 0x40, 0x64]
    static let serverParameters: [UInt8] = [4, 4, 0x80, 0x10, 0, 0]

    let client: End
    let server: End

    init(
        _ clientContext: TLSContext, _ serverContext: TLSContext, name: String? = "source.test",
        clientParameters: [UInt8] = TLSPair.clientParameters, serverParameters: [UInt8] = TLSPair.serverParameters,
        resume: [UInt8]? = nil
    ) throws {
        client = End(
            try TLSSession(
                context: clientContext, serverName: name, transportParameters: clientParameters, resume: resume))
        server = End(try TLSSession(context: serverContext, transportParameters: serverParameters))
    }

    /// Runs until neither end has anything to deliver, or one has failed.
    func run(chunk: Int = 1200, tamper: ((Int, inout [UInt8]) -> Void)? = nil) {
        client.attempt { () throws(TransportError) in try client.session.start() }
        server.attempt { () throws(TransportError) in try server.session.start() }
        var count = 0
        while deliver(client, server, chunk, &count, tamper) || deliver(server, client, chunk, &count, tamper) {}
    }

    private func deliver(
        _ from: End, _ to: End, _ chunk: Int, _ count: inout Int, _ tamper: ((Int, inout [UInt8]) -> Void)?
    ) -> Bool {
        guard from.error == nil, to.error == nil, let next = from.sent.first, to.readable.contains(next.level) else {
            return false
        }
        var piece = Array(next.bytes.prefix(chunk))
        from.sent[0].bytes.removeFirst(piece.count)
        if from.sent[0].bytes.isEmpty { from.sent.removeFirst() }
        tamper?(count, &piece)
        count += 1
        to.attempt { () throws(TransportError) in try to.session.receive(level: next.level, piece.span) }
        return true
    }

    /// Expects a handshake without flaw, in which both ends have the same four secrets.
    func expectSuccess(sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(client.error == nil && server.error == nil, sourceLocation: sourceLocation)
        #expect(client.isComplete && server.isComplete, sourceLocation: sourceLocation)
        for level in ["handshake", "application"] {
            for (one, other) in [("read", "write"), ("write", "read")] {
                let secret = client.secrets["\(level) \(one)"]
                #expect(secret != nil, sourceLocation: sourceLocation)
                #expect(secret == server.secrets["\(level) \(other)"], sourceLocation: sourceLocation)
            }
        }
        #expect(client.suites == server.suites && client.suites.count == 1, sourceLocation: sourceLocation)
        #expect(client.session.alpn == server.session.alpn, sourceLocation: sourceLocation)
        #expect(client.session.isResumed == server.session.isResumed, sourceLocation: sourceLocation)
        #expect(client.parameters == TLSPair.serverParameters, sourceLocation: sourceLocation)
        #expect(server.parameters == TLSPair.clientParameters, sourceLocation: sourceLocation)
    }
}
