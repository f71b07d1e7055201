import Testing
import Wire

@Suite("Addresses")
struct AddressTests {
    /// RFC 5952 section 4 and its examples.
    @Test(arguments: [
        ("2001:0db8:0:0:0:0:0:1", "2001:db8::1"), ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"), ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("::", "::"), ("::1", "::1"), ("ff3e::8000:1", "ff3e::8000:1"), ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        ("192.0.2.1", "192.0.2.1"), ("fe80::", "fe80::"), ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
    ])
    func canonical(_ text: String, _ canonical: String) {
        #expect(IPAddress(text)?.description == canonical)
    }

    @Test(arguments: [
        "", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1:2", ":::", "1::2::3", "12345::", "1:2:3:4:5:6:7:8:9",
        "g::",
        "1:2:3:4:5:6:7:", "::1.2.3", "+1.2.3.4",
    ])
    func refused(_ text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test func socketAddresses() {
        #expect(SocketAddress("192.0.2.1:443")?.description == "192.0.2.1:443")
        #expect(SocketAddress("[2001:db8::1]:443")?.description == "[2001:db8::1]:443")
        for bad in ["192.0.2.1", "2001:db8::1:443", "[192.0.2.1]:443", "192.0.2.1:65536", ":443", "[::1]"] {
            #expect(SocketAddress(bad) == nil, "\(bad)")
        }
    }

    @Test func ranges() {
        #expect(IPAddress("232.1.1.1")!.isSourceSpecificMulticast)
        #expect(!IPAddress("239.1.1.1")!.isSourceSpecificMulticast)
        #expect(IPAddress("ff3e::1")!.isSourceSpecificMulticast)
        #expect(IPAddress("239.1.1.1")!.isMulticast && !IPAddress("192.0.2.1")!.isMulticast)
    }
}

@Suite("SeededRandom")
struct SeededRandomTests {
    /// RFC 8439 Appendix A.1, test vector 1: all-zero key and nonce, block counter 0.
    @Test func chaCha20Block() {
        var random = SeededRandom(seed: 0)
        #expect(
            random.octets(16) == [
                0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90, 0x40, 0x5d, 0x6a, 0xe5, 0x53, 0x86, 0xbd, 0x28,
            ])
    }
}
