import Testing
import Wire

@testable import AMT

func name(_ text: String) -> DomainName {
    guard let name = DomainName(text) else { preconditionFailure("\(text) is no name") }
    return name
}

@Suite("AMTRELAY records and names")
struct DiscoveryRecordTests {
    @Test(
        "RDATA of all types is read",
        arguments: [
            // The examples of RFC 8777 section 4.3.2 and their kin.
            ("0a01cb00710f", AMTRelayRecord(precedence: 10, relay: .address(ip("203.0.113.15")))),
            (
                "0a0220010db8000000000000000000000015",
                AMTRelayRecord(precedence: 10, relay: .address(ip("2001:db8::15")))
            ),
            (
                "808309616d7472656c617973076578616d706c6503636f6d00",
                AMTRelayRecord(precedence: 128, isDiscoveryOptional: true, relay: .name(name("amtrelays.example.com")))
            ),
            ("0000", AMTRelayRecord(precedence: 0, relay: .none)),
            (
                "ff81c0000201",
                AMTRelayRecord(precedence: 255, isDiscoveryOptional: true, relay: .address(ip("192.0.2.1")))
            ),
        ])
    func records(_ text: String, _ record: AMTRelayRecord) {
        #expect(AMTRelayRecord(hex(text).span) == record)
    }

    @Test(
        "Malformed RDATA is refused",
        arguments: [
            ("", "nothing"), ("0a", "no type"), ("0a01cb0071", "short IPv4"), ("0a01cb00710f00", "long IPv4"),
            ("0a02200100", "short IPv6"), ("0a000000", "octets after no relay"), ("0a04cb00710f", "unknown type"),
            ("0a7fcb00710f", "the highest type"), ("0a01e0000001", "a group as relay"), ("0a0100000000", "no address"),
            ("0a0103", "short"), ("0a0300", "the root as relay"), ("0a0303616263", "a name without end"),
            ("0a03c000", "a compressed name"), ("0a030361626300ff", "octets after the name"),
            ("0a0240616263", "a label of a reserved kind"),
        ])
    func malformed(_ text: String, _ what: Comment) {
        #expect(AMTRelayRecord(hex(text).span) == nil, what)
    }

    @Test(
        "An address's reverse name",
        arguments: [
            ("192.0.2.5", "5.2.0.192.in-addr.arpa."),
            ("255.1.0.10", "10.0.1.255.in-addr.arpa."),
            (
                "2001:db8::567:89ab",
                "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."
            ),
        ])
    func reverse(_ address: String, _ text: String) {
        #expect(DomainName(reverseOf: ip(address)).description == text)
        #expect(DomainName(text) == DomainName(reverseOf: ip(address)))
    }

    @Test("Names are equal whatever their case, and bounded")
    func names() {
        #expect(name("Relay.EXAMPLE.net.") == name("relay.example.net"))
        #expect(name(".").isRoot == true)
        #expect(DomainName("a..b") == nil)
        #expect(DomainName("") == nil && DomainName("..") == nil && DomainName(".a") == nil)
        #expect(DomainName(String(repeating: "a", count: 64)) == nil)
        let long = Array(repeating: String(repeating: "a", count: 63), count: 3).joined(separator: ".")
        #expect(DomainName(long + "." + String(repeating: "b", count: 61))?.octets == 255)
        #expect(DomainName(long + "." + String(repeating: "b", count: 62)) == nil)
        #expect(name("a.b.example.org").replacing(name("example.org"), with: name("net")) == name("a.b.net"))
        #expect(name("example.org").replacing(name("example.org"), with: name("net")) == nil)
        #expect(name("a.badexample.org").replacing(name("example.org"), with: name("net")) == nil)
    }

    @Test("A record that says there is no relay ends the list")
    func noRelay() {
        let first = AMTRelayRecord(precedence: 1, relay: .address(ip("192.0.2.1")))
        let last = AMTRelayRecord(precedence: 9, relay: .address(ip("192.0.2.9")))
        #expect([last, AMTRelayRecord(precedence: 5, relay: .none), first].usable == [first])
        #expect([last, AMTRelayRecord(precedence: 0, relay: .none), first].usable == [])
    }

    @Test("Services are ordered by priority, and by lot in proportion to the weights")
    func services() {
        func service(_ priority: UInt16, _ weight: UInt16, _ target: String) -> ServiceRecord {
            ServiceRecord(priority: priority, weight: weight, port: 2268, target: name(target))
        }
        let all = [service(2, 0, "last"), service(1, 90, "heavy"), service(1, 10, "light"), service(0, 0, ".")]
        var random = SeededRandom(seed: 5)
        var first: [String: Int] = [:]
        for _ in 0..<2000 {
            let order = all.ordered(by: &random).map(\.target.description)
            #expect(Set(order.prefix(2)) == ["heavy.", "light."] && order.last == "last." && order.count == 3)
            first[order[0], default: 0] += 1
        }
        #expect((1650...1930).contains(first["heavy."] ?? 0), "\(first)")
    }
}
