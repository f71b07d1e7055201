import Testing

@testable import Wire

/// RFC 9000 section 8.1 lets a server charge an address only once it is validated; what an account may have is ours.
@Suite("Accounts of connections") struct AccountTableTests {
    private static let start = Instant(nanoseconds: 1_000_000_000)

    private func table(
        connections: Int = 4, perSecond: Int = 1, accounts: Int = 1 << 17
    ) -> AccountTable {
        var limits = AccountTable.Limits()
        limits.connections = connections
        limits.beginningsPerSecond = perSecond
        limits.accounts = accounts
        return AccountTable(limits: limits)
    }

    private func address(_ text: String) -> IPAddress { IPAddress(text)! }

    @Test func anAddressHasItsConnectionsAndNoMore() {
        var table = table()
        for _ in 0..<4 { #expect(table.begin(address("192.0.2.1"), at: Self.start) == nil) }
        #expect(table.verdict(on: address("192.0.2.1"), at: Self.start) == .connections)
        #expect(table.begin(address("::ffff:192.0.2.1"), at: Self.start) == .connections, "the same address, mapped")
        #expect(table.refused(.connections) == 1)
        #expect(table.begin(address("192.0.2.2"), at: Self.start) == nil, "another pays for itself")
        let later = Self.start + .seconds(10)
        table.end(address("192.0.2.1"), at: later)
        #expect(table.begin(address("192.0.2.1"), at: later) == nil)
    }

    @Test func comingAndGoingIsBoundedBySecond() {
        var table = table(connections: 4, perSecond: 2)
        var now = Self.start
        var begun = 0
        for _ in 0..<1000 {
            if table.begin(address("192.0.2.1"), at: now) == nil {
                begun += 1
                table.end(address("192.0.2.1"), at: now)
            }
            now = now + .milliseconds(10)
        }
        // Four at once and two for each of ten seconds.
        #expect((23...24).contains(begun))
        #expect(table.refused(.beginnings) == UInt64(1000 - begun))
    }

    @Test func widerPrefixesHaveWiderLimits() {
        var table = table(connections: 2, perSecond: 1000)
        func fill(_ prefix: (Int) -> String, _ count: Int) -> Int {
            (0..<count).count { table.begin(address(prefix($0)), at: Self.start) == nil }
        }
        #expect(fill({ "2001:db8:1:2::\($0)" }, 5) == 2, "a /64 is one host")
        #expect(
            fill({ "2001:db8:1:\(String($0 + 3, radix: 16))::1" }, 100) == 2 * AccountTable.factorOf56 - 2,
            "a /56 has four times as many")
        #expect(
            fill({ "2001:db8:1:\(String($0 + 1, radix: 16))00::1" }, 200)
                == 2 * (AccountTable.factorOf48 - AccountTable.factorOf56), "a /48 has sixteen times as many")
        #expect(fill({ "2001:db8:2:\($0)::1" }, 1) == 1)
    }

    /// Each address that was heard of once would otherwise be kept for ever.
    @Test func theTableIsBoundedAndForgets() {
        var table = table(connections: 2, perSecond: 1, accounts: 3000)
        var now = Self.start
        for host in 0..<3000 as Range<UInt32> { #expect(table.begin(.v4(host), at: now) == nil) }
        #expect(table.count == 3000)
        #expect(table.begin(.v4(9999), at: now) == .table)
        #expect(table.refused(.table) == 1)
        for host in 0..<2999 as Range<UInt32> { table.end(.v4(host), at: now) }
        #expect(table.begin(.v4(9999), at: now) == .table, "what began a moment ago is not forgotten")
        now = now + .seconds(5)
        #expect(table.begin(.v4(9999), at: now) == nil)
        #expect(table.count == 2, "one is still open")
    }

    /// Against a model that remembers every beginning.
    @Test(arguments: 0..<8 as Range<UInt64>) func agreesWithAModel(_ seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var table = table(connections: 3, perSecond: 4)
        var model = Model(connections: 3, perSecond: 4)
        var open: [IPAddress] = []
        var now = Self.start
        for step in 0..<4000 {
            now = now + .milliseconds(Int64.random(in: 0...40, using: &random))
            if Bool.random(using: &random), let index = open.indices.randomElement(using: &random) {
                let address = open.remove(at: index)
                table.end(address, at: now)
                model.end(address)
            } else {
                // Few prefixes, so that each of the widths is reached.
                let bits =
                    UInt64.random(in: 0...3, using: &random) << 16 | UInt64.random(in: 0...1, using: &random) << 8
                    | UInt64.random(in: 0...7, using: &random)
                let address: IPAddress =
                    Bool.random(using: &random) ? .v4(UInt32(bits)) : .v6(UInt128(bits) << 64 | UInt128(step))
                let expected = model.begin(address, at: now)
                #expect(table.begin(address, at: now) == expected, "step \(step)")
                if expected == nil { open.append(address) }
            }
            for address in open.prefix(1) { #expect(table.openConnections(of: address) == model.open(of: address)) }
        }
        #expect(AccountTable.Refusal.allCases.reduce(0) { $0 + table.refused($1) } == model.refused)
    }

    private struct Model {
        let connections: Int
        let perSecond: Int
        /// By width and prefix: open connections, and what is left of the burst.
        var accounts: [String: (open: Int, tokens: Double, at: Instant)] = [:]
        var refused: UInt64 = 0

        private func names(_ address: IPAddress) -> [(String, Int)] {
            switch address {
            case .v4(let bits): [("v4 \(bits)", 1)]
            case .v6(let bits): [("64 \(bits >> 64)", 1), ("56 \(bits >> 72)", 4), ("48 \(bits >> 80)", 16)]
            }
        }

        func open(of address: IPAddress) -> Int { accounts[names(address)[0].0]?.open ?? 0 }

        mutating func begin(_ address: IPAddress, at now: Instant) -> AccountTable.Refusal? {
            for (name, factor) in names(address) {
                let burst = Double(connections * factor)
                var account = accounts[name] ?? (0, burst, now)
                let gained = Double((now - account.at).nanoseconds) / 1e9 * Double(perSecond * factor)
                account.tokens = min(burst, account.tokens + gained)
                account.at = now
                accounts[name] = account
            }
            for (name, factor) in names(address) {
                if accounts[name]!.open >= connections * factor {
                    refused += 1
                    return .connections
                }
                if accounts[name]!.tokens < 1 - 1e-6 {
                    refused += 1
                    return .beginnings
                }
            }
            for (name, _) in names(address) {
                accounts[name]!.open += 1
                accounts[name]!.tokens -= 1
            }
            return nil
        }

        mutating func end(_ address: IPAddress) { for (name, _) in names(address) { accounts[name]!.open -= 1 } }
    }
}
