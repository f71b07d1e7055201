import Cryptography
import QUIC
import Wire

/// Octets from hexadecimal digits; white space is skipped.
func hex(_ text: String) -> [UInt8] {
    let digits = text.filter { !$0.isWhitespace }.map { UInt8(String($0), radix: 16)! }
    precondition(digits.count % 2 == 0)
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

// `#expect` cannot take spans apart, so the tests call these with arrays.

func constantTimeEquals(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    Cryptography.constantTimeEquals(a.span, b.span)
}

extension Retry {
    static func isAuthentic(_ packet: [UInt8], originalDestination: ConnectionID) -> Bool {
        isAuthentic(packet.span, originalDestination: originalDestination)
    }
}

extension StatelessReset {
    static func isReset(_ datagram: [UInt8], tokens: [[UInt8]]) -> Bool {
        isReset(datagram.span, tokens: tokens)
    }
}

extension AddressTokens {
    func check(_ token: [UInt8], client: SocketAddress, at now: Instant) -> Verdict {
        check(token.span, client: client, at: now)
    }
}

extension OpeningKey {
    /// Opens the packet that fills `packet` from index 0, whose packet number lies at 9.
    func open(_ packet: inout [UInt8], pathID: UInt32 = 0) -> OpenedPacket? {
        var span = packet.mutableSpan
        return open(
            &span, start: 0, packetNumberOffset: 9, end: span.count, largest: 999, pathID: pathID)
    }
}
