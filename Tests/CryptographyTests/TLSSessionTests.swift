import QUIC
import Testing
import Wire

@testable import Cryptography

@Suite struct TLSSessionTests {
    static let alpn = ["flexicast"]

    static func server(suites: [CipherSuite] = CipherSuite.allCases) throws -> TLSContext {
        try .server(selfSignedFor: ["source.test", "192.0.2.1", "2001:db8::1"], alpn: alpn, suites: suites)
    }

    /// A client that trusts `server` and nobody else.
    static func client(of server: TLSContext, alpn: [String] = alpn) throws -> TLSContext {
        try TestCertificates.withDirectory { directory in
            try .client(
                trust: .file(TestCertificates.write(server.certificatePEM, "trust.pem", in: directory)), alpn: alpn)
        }
    }

    @Test(arguments: [1, 7, 300, 1200], CipherSuite.allCases) func handshake(chunk: Int, suite: CipherSuite) throws {
        let server = try Self.server(suites: [suite])
        let pair = try TLSPair(Self.client(of: server), server)
        pair.run(chunk: chunk)
        pair.expectSuccess()
        #expect(pair.client.suites == [suite])
        #expect(pair.client.session.alpn == "flexicast")
        #expect(!pair.client.session.isResumed)
        #expect(pair.client.tickets.count == 1)
        #expect(pair.client.helloCount == 1)
    }

    @Test func resumption() throws {
        let server = try Self.server()
        let client = try Self.client(of: server)
        let first = try TLSPair(client, server)
        first.run()
        let ticket = try #require(first.client.tickets.first)
        let second = try TLSPair(client, server, resume: ticket)
        second.run(chunk: 7)
        second.expectSuccess()
        #expect(second.client.session.isResumed)
        #expect(second.client.secrets != first.client.secrets)

        // Another server cannot read the ticket, and a broken one is as good as none.
        let stranger = try Self.server()
        let third = try TLSPair(Self.client(of: stranger), stranger, resume: ticket)
        third.run()
        third.expectSuccess()
        #expect(!third.client.session.isResumed)
        for count in [1, 10, ticket.count - 1] {
            let fourth = try TLSPair(client, server, resume: Array(ticket.prefix(count)))
            fourth.run()
            fourth.expectSuccess()
            #expect(!fourth.client.session.isResumed)
        }
    }

    /// RFC 9002 section 6.2.2.1: the client's secret of the handshake is there with the server's hello, and it is OpenSSL's.
    @Test(arguments: CipherSuite.allCases, ["X25519", "P-256", "P-384", "P-521", "X448"])
    func theWriteSecretDoesNotWaitForTheFlight(suite: CipherSuite, group: String) throws {
        let server = try Self.server(suites: [suite])
        let client = try Self.client(of: server)
        try server.useGroups(group)
        func handshake(resume: [UInt8]? = nil) throws -> TLSPair {
            let pair = try TLSPair(client, server, resume: resume)
            var early: [UInt8]?
            pair.run(chunk: 100) { _, _ in
                pair.client.attempt { () throws(TransportError) in pair.client.session.announceWriteSecret() }
                if early == nil { early = pair.client.secrets["handshake write"] }
                if early == nil { #expect(!pair.client.readable.contains(.handshake)) }
            }
            pair.expectSuccess()
            #expect(early != nil && early == pair.server.secrets["handshake read"])
            return pair
        }
        // The client asks with X25519 first, and for the other groups again.
        try client.useGroups("X25519:P-256:P-384:P-521:X448")
        let first = try handshake()
        #expect(first.client.helloCount == (group == "X25519" ? 1 : 2))
        let second = try handshake(resume: first.client.tickets[0])
        #expect(second.client.session.isResumed)
    }

    @Test func chainFromFiles() throws {
        try TestCertificates.withDirectory { directory in
            let server = try TLSContext.server(
                certificateFile: TestCertificates.write(TestCertificates.certificate, "server.pem", in: directory),
                keyFile: TestCertificates.write(TestCertificates.key, "server.key", in: directory), alpn: Self.alpn)
            let trust = try TestCertificates.write(TestCertificates.authority, "authority.pem", in: directory)
            let client = try TLSContext.client(trust: .file(trust), alpn: Self.alpn)
            for name in ["source.test", "SOURCE.test", "192.0.2.1", "2001:db8::1", "2001:0db8:0::0001"] {
                let pair = try TLSPair(client, server, name: name)
                pair.run()
                pair.expectSuccess()
            }
            for name in ["other.test", "192.0.2.2", "2001:db8::2", "test"] {
                let pair = try TLSPair(client, server, name: name)
                pair.run()
                #expect(pair.client.error?.code == .crypto(alert: 42), "bad_certificate for \(name)")
                #expect(!pair.client.isComplete)
            }
        }
    }

    @Test func wrongAuthority() throws {
        let server = try Self.server()
        let pair = try TLSPair(Self.client(of: Self.server()), server)
        pair.run()
        #expect(pair.client.error?.code == .crypto(alert: 48))
        #expect(pair.client.error?.reason.contains("certificate") == true)
        // Whoever looks away connects all the same.
        let careless = try TLSPair(.client(trust: .none, alpn: Self.alpn), server, name: "anything.test")
        careless.run()
        careless.expectSuccess()
        // The system does not know this authority.
        let system = try TLSPair(.client(trust: .system, alpn: Self.alpn), server)
        system.run()
        #expect(system.client.error != nil)
    }

    @Test func alpnMismatch() throws {
        let server = try Self.server()
        let pair = try TLSPair(Self.client(of: server, alpn: ["h3"]), server)
        pair.run()
        #expect(pair.server.error?.code == .crypto(alert: 120))
    }

    @Test func serverPrefersItsOwnOrder() throws {
        let server = try TLSContext.server(selfSignedFor: ["source.test"], alpn: ["one", "two"])
        let pair = try TLSPair(Self.client(of: server, alpn: ["zero", "two", "one"]), server)
        pair.run()
        pair.expectSuccess()
        #expect(pair.server.session.alpn == "one")
    }

    @Test(arguments: [1, 1200]) func helloRetryRequest(chunk: Int) throws {
        let server = try Self.server()
        let client = try Self.client(of: server)
        try server.useGroups("P-384")
        try client.useGroups("X25519:P-384")
        let pair = try TLSPair(client, server)
        pair.run(chunk: chunk)
        pair.expectSuccess()
        #expect(pair.client.helloCount == 2)
        #expect(pair.server.helloCount == 2)
    }

    /// RFC 9001 section 6: an update of TLS's own keys is an error, as is anything but a ticket.
    @Test(arguments: [Role.client, .server], [1, 100]) func keyUpdateIsRefused(role: Role, chunk: Int) throws {
        let server = try Self.server()
        let pair = try TLSPair(Self.client(of: server), server)
        pair.run()
        pair.expectSuccess()
        let end = role == .client ? pair.client : pair.server
        let message: [UInt8] = [24, 0, 0, 1, 0]
        for start in stride(from: 0, to: message.count, by: chunk) where end.error == nil {
            let piece = Array(message[start..<min(start + chunk, message.count)])
            end.attempt { () throws(TransportError) in try end.session.receive(level: .application, piece.span) }
        }
        #expect(end.error?.code == .crypto(alert: 10))
    }

    /// RFC 9001 sections 6 and 8.3: neither has a place in the handshake of QUIC.
    @Test(arguments: [("EndOfEarlyData", [5, 0, 0, 0]), ("KeyUpdate", [24, 0, 0, 1, 0])] as [(String, [UInt8])])
    func messagesWithoutAPlaceInTheHandshake(_ name: String, _ message: [UInt8]) throws {
        let server = try Self.server()
        let pair = try TLSPair(Self.client(of: server), server)
        // In place of the client's Finished.
        pair.client.attempt { () throws(TransportError) in try pair.client.session.start() }
        for hello in pair.client.sent {
            pair.server.attempt { () throws(TransportError) in
                try pair.server.session.receive(level: .initial, hello.bytes.span)
            }
        }
        #expect(pair.server.error == nil && pair.server.readable.contains(.handshake))
        pair.server.attempt { () throws(TransportError) in
            try pair.server.session.receive(level: .handshake, message.span)
        }
        #expect(pair.server.error?.code == .crypto(alert: 10))
    }

    @Test func levelsAreKeptApart() throws {
        let server = try Self.server()
        let pair = try TLSPair(Self.client(of: server), server)
        pair.client.attempt { () throws(TransportError) in try pair.client.session.start() }
        pair.client.attempt { () throws(TransportError) in
            try pair.client.session.receive(level: .handshake, [2, 0, 0, 0].span)
        }
        #expect(pair.client.error?.code == .protocolViolation)
        // The first error stays.
        pair.client.attempt { () throws(TransportError) in
            try pair.client.session.receive(level: .initial, [2, 0, 0, 0].span)
        }
        #expect(pair.client.error?.code == .protocolViolation)
    }

    /// RFC 9001 sections 4.2, 8.1, 8.2 and 8.4: what a ClientHello must and must not have.
    @Test func clientHelloRules() throws {
        let server = try Self.server()
        let client = try Self.client(of: server)
        func alert(_ change: @escaping (inout [UInt8]) -> Void) throws -> TransportError.Code? {
            let pair = try TLSPair(client, server)
            pair.run(tamper: { count, bytes in if count == 0 { change(&bytes) } })
            return pair.server.error?.code
        }
        /// Gives the extension of `type`, whose body begins with `body`, an unknown type.
        func rename(_ type: [UInt8], _ bytes: inout [UInt8]) {
            let at = (39..<(bytes.count - 4)).first {
                Array(bytes[$0..<($0 + 2)]) == type && bytes[$0 + 2] == 0 && Int(bytes[$0 + 3]) <= 12
            }!
            bytes[at] = 0x7a
        }
        // The client's own hello asks for no compatibility, as it has no session ID, and offers TLS 1.3 alone.
        var sessionIDLength: UInt8?
        var offersOneVersion = false
        #expect(
            try alert { bytes in
                sessionIDLength = bytes[38]
                offersOneVersion = bytes.contains([0, 43, 0, 3, 2, 3, 4])
            } == nil)
        #expect(sessionIDLength == 0 && offersOneVersion)
        #expect(try alert { rename([0, 0x39], &$0) } == .crypto(alert: 109))
        #expect(try alert { rename([0, 16], &$0) } == .crypto(alert: 120))
        #expect(
            try alert { bytes in
                let length = Int(bytes[2]) << 8 + Int(bytes[3]) + 8
                bytes[2] = UInt8(length >> 8)
                bytes[3] = UInt8(length & 0xff)
                bytes[38] = 8
                bytes.insert(contentsOf: [1, 2, 3, 4, 5, 6, 7, 8], at: 39)
            } == .crypto(alert: 47))
    }

    @Test func transportParametersAreRequired() throws {
        let server = try Self.server()
        let client = try Self.client(of: server)
        let first = try TLSPair(client, server, serverParameters: [])
        first.run()
        #expect(first.client.error?.code == .crypto(alert: 109))
        #expect(!first.client.isComplete)

        let good = try TLSPair(client, server)
        good.run()
        let resumed = try TLSPair(client, server, serverParameters: [], resume: good.client.tickets[0])
        resumed.run()
        #expect(resumed.client.error?.code == .crypto(alert: 109))

        let silent = try TLSPair(client, server, clientParameters: [], resume: good.client.tickets[0])
        silent.run()
        #expect(silent.server.error?.code == .crypto(alert: 109))
    }

    @Test func garbageNeverTraps() throws {
        let server = try Self.server()
        let client = try Self.client(of: server)
        var random = SeededRandom(seed: 9)
        for _ in 0..<60 {
            let pair = try TLSPair(client, server)
            pair.client.attempt { () throws(TransportError) in try pair.client.session.start() }
            for end in [pair.client, pair.server] {
                for level in ProtectionLevel.allCases {
                    let junk = random.octets(Int.random(in: 0...300, using: &random))
                    end.attempt { () throws(TransportError) in try end.session.receive(level: level, junk.span) }
                }
                #expect(!end.isComplete)
            }
        }
        // One wrong bit anywhere in the handshake, and it does not complete on both sides.
        var clean = 0
        let reference = try TLSPair(client, server)
        reference.run(chunk: 1, tamper: { _, _ in clean += 1 })
        reference.expectSuccess()
        for _ in 0..<120 {
            let pair = try TLSPair(client, server)
            // The ticket at the end is the server's secret, whose octets the client does not check.
            let victim = Int.random(in: 0..<(clean - 300), using: &random)
            let bit = UInt8.random(in: 0..<8, using: &random)
            pair.run(chunk: 1, tamper: { count, bytes in if count == victim { bytes[0] ^= 1 << bit } })
            #expect(!(pair.client.isComplete && pair.server.isComplete), "octet \(victim), bit \(bit)")
        }
        // And after the handshake.
        for _ in 0..<60 {
            for role in [Role.client, .server] {
                let pair = try TLSPair(client, server)
                pair.run()
                let end = role == .client ? pair.client : pair.server
                let junk = random.octets(Int.random(in: 4...300, using: &random))
                end.attempt { () throws(TransportError) in try end.session.receive(level: .application, junk.span) }
                #expect(end.error != nil || junk[0] == 4)
            }
        }
    }
}
