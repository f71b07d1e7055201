import QUIC
import Testing
import Wire

@testable import Cryptography

/// A server answers who belongs to no connection, and a flood of such datagrams takes nobody else's answer.
@Suite struct AnswerBudgetTests {
    /// A datagram that a kind of answer is for.
    enum Kind: CaseIterable {
        case retry, versionNegotiation, reset, refusal

        var datagram: [UInt8] {
            switch self {
            case .retry: DatagramRuleTests.long(0xc0, to: Self.id, from: [1], [0, 0x44, 0x80] + Self.zeros)
            case .versionNegotiation:
                DatagramRuleTests.long(0xc0, version: 0xbaba_baba, to: Self.id, from: [1], Self.zeros)
            case .reset: [0x40] + Self.id + [UInt8](repeating: 5, count: 51)
            case .refusal: []
            }
        }

        private static let id = [UInt8](repeating: 9, count: 8)
        private static let zeros = [UInt8](repeating: 0, count: 1200)
    }

    private struct Server {
        var now = SecureWorld.start
        let admission = Admission(requiresRetry: true, random: SeededRandom(seed: 3), at: SecureWorld.start)
        private let datagrams = Kind.allCases.map(\.datagram)

        /// Whether the datagram is answered.
        func answers(_ kind: Kind, _ address: IPAddress) -> Bool {
            let client = SocketAddress(address, port: 1000)
            if kind == .refusal {
                let id = ConnectionID([1])!
                let admitted = Admission.Client(
                    address: client, source: id, destination: id, originalDestination: id, isValidated: true)
                return admission.refusal(of: admitted, reason: "", at: now) != nil
            }
            let datagram = datagrams[Kind.allCases.firstIndex(of: kind)!]
            if case .reply = admission.judge(datagram.span, from: client, at: now) { return true }
            return false
        }
    }

    private static let newcomer = IPAddress("198.51.100.7")!

    /// Of one kind there may be any number, for the others that is as if there were none.
    @Test(arguments: Kind.allCases) func kindsHaveBudgetsOfTheirOwn(flood: Kind) {
        let server = Server()
        for _ in 0..<5000 { _ = server.answers(flood, Self.newcomer) }
        #expect(!server.answers(flood, Self.newcomer))
        #expect(server.admission.counters.suppressed > 3000)
        for kind in Kind.allCases where kind != flood { #expect(server.answers(kind, Self.newcomer)) }
    }

    /// A network that floods, whatever addresses of it are used, takes nothing from others.
    @Test(arguments: Kind.allCases, [true, false]) func networksHaveShares(flood: Kind, isIPv4: Bool) {
        var server = Server()
        var random = SeededRandom(seed: 4)
        var answered = 0
        for _ in 0..<5 {
            for _ in 0..<1500 {
                let bits = UInt64.random(in: 0..<256, using: &random)
                _ = server.answers(
                    flood, isIPv4 ? .v4(0xcb00_7100 | UInt32(bits)) : .v6(0x2001_0db8_0001 << 80 | UInt128(bits) << 72))
            }
            if server.answers(flood, Self.newcomer) { answered += 1 }
            server.now += .seconds(1)
        }
        #expect(answered == 5)
    }

    /// 50 000 datagrams a second with addresses from everywhere leave a newcomer its Retry.
    @Test func addressesFromEverywhereDoNotStarveNewcomers() {
        var server = Server()
        var random = SeededRandom(seed: 5)
        var answered = 0
        for index in 1...100_000 {
            server.now += .microseconds(20)
            _ = server.answers(.retry, .v4(UInt32.random(in: 0...(.max), using: &random)))
            guard index > 50_000, index % 2500 == 0 else { continue }
            if server.answers(.retry, IPAddress("198.51.\(index / 2500).7")!) { answered += 1 }
        }
        #expect(answered >= 18, "of 20")
    }

    /// However many come: what all of them together are answered has a bound.
    @Test(arguments: Kind.allCases) func answersAreBounded(_ kind: Kind) {
        let server = Server()
        var random = SeededRandom(seed: 6)
        var answered = 0
        for _ in 0..<200_000 where server.answers(kind, .v4(UInt32.random(in: 0...(.max), using: &random))) {
            answered += 1
        }
        let limits: AnswerBudget.Limits = kind == .retry ? .retry : .others
        let most = (limits.perShare << limits.shareBits) + 1000
        #expect(answered <= most && answered > most * 9 / 10)
    }
}
