import QUIC
import Testing
import Wire

@testable import Cryptography

@Suite struct TokenTests {
    static let client = SocketAddress("192.0.2.7:4433")!
    static let original = ConnectionID([1, 2, 3, 4, 5, 6, 7, 8])!
    static let source = ConnectionID([9, 9, 9])!
    static let start = Instant(nanoseconds: 5_000_000_000)

    func tokens() -> AddressTokens { AddressTokens(random: SeededRandom(seed: 1), at: Self.start) }

    @Test(arguments: ["192.0.2.7:4433", "[2001:db8::7]:4433"]) func retryToken(_ address: String) {
        let client = SocketAddress(address)!
        let tokens = tokens()
        let token = tokens.retryToken(
            client: client, originalDestination: Self.original, retrySource: Self.source, at: Self.start)
        let good = AddressTokens.Verdict.retry(originalDestination: Self.original, retrySource: Self.source)
        #expect(tokens.check(token, client: client, at: Self.start + .seconds(10)) == good)
        #expect(tokens.check(token, client: client, at: Self.start + .milliseconds(10_001)) == .refused)
        let otherPort = SocketAddress(client.address, port: 4434)
        #expect(tokens.check(token, client: otherPort, at: Self.start) == .refused)
        let otherHost = SocketAddress(.v4(1), port: client.port)
        #expect(tokens.check(token, client: otherHost, at: Self.start) == .refused)
    }

    @Test func newToken() {
        let tokens = tokens()
        let token = tokens.newToken(client: Self.client.address, at: Self.start)
        let later = SocketAddress(Self.client.address, port: 1)
        #expect(tokens.check(token, client: later, at: Self.start + .seconds(86_400)) == .validated)
        #expect(tokens.check(token, client: later, at: Self.start + .seconds(86_401)) == .unknown)
        let elsewhere = SocketAddress(.v4(1), port: 1)
        #expect(tokens.check(token, client: elsewhere, at: Self.start) == .unknown)
    }

    /// A run that has the secret of the one before knows its tokens, by the time of day: the clock that runs since the start of the
    /// machine may have begun anew.
    @Test func tokensOutliveARestart() {
        let secret = [UInt8](repeating: 7, count: 32)
        func run(_ secret: [UInt8]?, day: Int, seed: UInt64) -> AddressTokens {
            AddressTokens(
                secret: secret, wallClock: .seconds(day * 86_400 + 60), random: SeededRandom(seed: seed), at: Self.start
            )
        }
        let before = run(secret, day: 20_000, seed: 1)
        let token = before.newToken(client: Self.client.address, at: Self.start)
        let retry = before.retryToken(
            client: Self.client, originalDestination: Self.original, retrySource: Self.source, at: Self.start)
        let after = run(secret, day: 20_000, seed: 2)
        #expect(after.check(token, client: Self.client, at: Self.start) == .validated)
        #expect(
            after.check(retry, client: Self.client, at: Self.start)
                == .retry(originalDestination: Self.original, retrySource: Self.source))
        #expect(run(secret, day: 20_001, seed: 2).check(token, client: Self.client, at: Self.start) == .validated)
        #expect(run(secret, day: 20_002, seed: 2).check(token, client: Self.client, at: Self.start) == .unknown)
        // The clock was set back: what is not made yet is nobody's.
        #expect(
            run(secret, day: 20_000, seed: 2).check(
                run(secret, day: 20_001, seed: 1).newToken(client: Self.client.address, at: Self.start),
                client: Self.client, at: Self.start) == .unknown)
        #expect(run(nil, day: 20_000, seed: 1).check(token, client: Self.client, at: Self.start) == .unknown)
    }

    @Test func keysRotate() {
        let tokens = tokens()
        let token = tokens.newToken(client: Self.client.address, at: Self.start + .seconds(80_000))
        // The key is a day old now and gives way, but stays for what it sealed.
        let tomorrow = Self.start + .seconds(90_000)
        let younger = tokens.newToken(client: Self.client.address, at: tomorrow)
        #expect(younger[0] != token[0])
        #expect(tokens.check(token, client: Self.client, at: tomorrow) == .validated)
        let dayAfter = tomorrow + .seconds(90_000)
        _ = tokens.newToken(client: Self.client.address, at: dayAfter)
        #expect(tokens.check(token, client: Self.client, at: dayAfter) == .unknown)
    }

    @Test func forgeriesAreUnknown() {
        let tokens = tokens()
        let token = tokens.retryToken(
            client: Self.client, originalDestination: Self.original, retrySource: .empty, at: Self.start)
        for index in token.indices {
            var forged = token
            forged[index] ^= 1
            #expect(tokens.check(forged, client: Self.client, at: Self.start) == .unknown)
        }
        for count in [0, 1, 12, 13, 28, 29, 30, 200, 201, 4000] {
            let junk = [UInt8](repeating: 0, count: count)
            #expect(tokens.check(junk, client: Self.client, at: Self.start) == .unknown)
        }
        let stranger = AddressTokens(random: SeededRandom(seed: 2), at: Self.start)
        #expect(stranger.check(token, client: Self.client, at: Self.start) == .unknown)
    }

    @Test func statelessResetTokens() {
        let key = StatelessResetKey(key: [UInt8](repeating: 3, count: 16))
        let token = key.token(for: Self.original)
        #expect(token.count == 16)
        #expect(token == key.token(for: Self.original))
        #expect(token != key.token(for: Self.source))
        #expect(token != StatelessResetKey(key: [UInt8](repeating: 4, count: 16)).token(for: Self.original))

        var random = SeededRandom(seed: 1)
        #expect(StatelessReset.packet(answering: 21, token: token, random: &random) == nil)
        for size in [22, 43, 44, 1200] {
            let packet = StatelessReset.packet(answering: size, token: token, random: &random)!
            #expect(packet.count < size && packet.count >= 21)
            #expect(packet[0] & 0xc0 == 0x40)
            #expect(StatelessReset.isReset(packet, tokens: [key.token(for: Self.source), token]))
            #expect(!StatelessReset.isReset(packet, tokens: [key.token(for: Self.source)]))
        }
        #expect(!StatelessReset.isReset(token, tokens: [token]))
    }

    @Test func comparison() {
        #expect(constantTimeEquals([], []))
        #expect(constantTimeEquals([1, 2], [1, 2]))
        #expect(!constantTimeEquals([1, 2], [1, 3]))
        #expect(!constantTimeEquals([1, 2], [1, 2, 3]))
        var one = randomSeed()
        var two = randomSeed()
        #expect(one.next() != two.next())
    }
}
