import QUIC
import Wire

/// Just enough HTTP/3 (RFC 9114) for a client that speaks nothing else: every request for `/n` is answered with n octets
/// that `content` makes. For measurements and tests; it is no server for the world.
struct HTTP3Responder {
    private let content: (Int) -> [UInt8]
    private var requests: [StreamID: [UInt8]] = [:]

    init(content: @escaping (Int) -> [UInt8]) { self.content = content }

    /// Opens the control stream with empty SETTINGS.
    mutating func begin(_ machine: inout Connection) {
        guard let control = try? machine.openStream(bidirectional: false) else { return }
        try? machine.write(control, [0x00, 0x04, 0x00], fin: false)
    }

    mutating func received(_ chunk: StreamChunk, on id: StreamID, _ machine: inout Connection) {
        guard id.isBidirectional else { return }
        requests[id, default: []] += chunk.bytes
        guard chunk.isFinished, let request = requests.removeValue(forKey: id) else { return }
        let body = content(Self.size(in: request))
        // HEADERS: QPACK with no dynamic table, ":status: 200" is static entry 25.
        var answer: [UInt8] = [0x01, 0x03, 0x00, 0x00, 0xc0 | 25]
        answer += [UInt8].written(capacity: 16) { writer in
            writer.varint(0)
            writer.varint(UInt64(body.count))
        }
        try? machine.write(id, answer, fin: false)
        try? machine.write(id, body, fin: true)
    }

    /// The number in the request's path. The field section is searched for the path's literal, plain or Huffman coded
    /// (RFC 7541 Appendix B: the digits 0-2 are the five-bit codes 0-2, 3-9 the six-bit codes 0x19-0x1f, "/" is 0x18).
    private static func size(in request: [UInt8]) -> Int {
        for index in request.indices.dropLast() where request[index] == 0x51 {
            let isHuffman = request[index + 1] & 0x80 != 0
            let count = Int(request[index + 1] & 0x7f)
            let value = request.dropFirst(index + 2).prefix(count)
            let text = isHuffman ? huffman(Array(value)) : String(decoding: value, as: UTF8.self)
            if let number = Int(text.drop { $0 == "/" }) { return number }
        }
        return 0
    }

    private static func huffman(_ octets: [UInt8]) -> String {
        var text = ""
        var bits = 0
        var count = 0
        for octet in octets {
            bits = bits << 8 | Int(octet)
            count += 8
            while count >= 5 {
                if let digit = [0, 1, 2].first(where: { $0 == bits >> (count - 5) & 31 }) {
                    text += String(digit)
                    count -= 5
                } else if count >= 6, case let code = bits >> (count - 6) & 63, (0x18...0x1f).contains(code) {
                    text += code == 0x18 ? "/" : String(code - 0x16)
                    count -= 6
                } else {
                    break
                }
            }
            bits &= (1 << count) - 1
        }
        return text
    }
}
