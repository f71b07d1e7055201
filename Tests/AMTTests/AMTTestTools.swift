import Foundation
import Wire

@testable import AMT

func hex(_ text: String) -> [UInt8] {
    var out: [UInt8] = []
    var high: UInt8?
    for character in text where !character.isWhitespace {
        guard let digit = character.hexDigitValue.map(UInt8.init) else { preconditionFailure("\(text) is no hex") }
        if let first = high {
            out.append(first << 4 | digit)
            high = nil
        } else {
            high = digit
        }
    }
    return out
}

func ip(_ text: String) -> IPAddress {
    guard let address = IPAddress(text) else { preconditionFailure("\(text) is no address") }
    return address
}

func address(_ text: String) -> SocketAddress {
    guard let address = SocketAddress(text) else { preconditionFailure("\(text) is no address") }
    return address
}

func seconds(_ value: Double) -> Instant { Instant(nanoseconds: Int64(value * 1e9)) }

/// A whole UDP packet, checksums filled in.
func udpPacket(
    from source: SocketAddress, to destination: SocketAddress, _ payload: [UInt8], hopLimit: UInt8 = 8,
    hasChecksum: Bool = true
) -> [UInt8] {
    var datagram = [UInt8].written(capacity: 8 + payload.count) { writer in
        writer.uint16(source.port)
        writer.uint16(destination.port)
        writer.uint16(UInt16(8 + payload.count))
        writer.uint16(0)
        writer.octets(payload.span)
    }
    if hasChecksum {
        let sum = UDPHeader.checksum(datagram.span, from: source.address, to: destination.address)
        datagram[6] = UInt8(sum >> 8)
        datagram[7] = UInt8(sum & 255)
    }
    return [UInt8].written(capacity: 40 + datagram.count) { writer in
        IPHeader.write(
            to: &writer, from: source.address, to: destination.address, protocol: IPProtocol.udp,
            payloadLength: datagram.count, hopLimit: hopLimit)
        writer.octets(datagram.span)
    }
}

/// tshark, a second opinion about every octet we send.
enum Tshark {
    static let path = "/usr/bin/tshark"
    static var isInstalled: Bool { FileManager.default.isExecutableFile(atPath: path) }
    /// With FLEXICAST_REQUIRE_ALL=1 a missing tool is a failure, not a reason to skip.
    static var mayRun: Bool { isInstalled || requiresAll }
    static var requiresAll: Bool { ProcessInfo.processInfo.environment["FLEXICAST_REQUIRE_ALL"] == "1" }

    /// What tshark prints about `packets`, whole IP packets, with every checksum verified.
    static func run(_ packets: [[UInt8]], _ arguments: [String]) throws -> String {
        var file = hex("d4c3b2a1 02000400 00000000 00000000 ffff0000 65000000")
        for packet in packets {
            for word in [0, 0, UInt32(packet.count), UInt32(packet.count)] {
                for shift in stride(from: UInt32(0), to: 32, by: 8) { file.append(UInt8(word >> shift & 255)) }
            }
            file += packet
        }
        let place = FileManager.default.temporaryDirectory.appendingPathComponent("amt-\(UUID().uuidString).pcap")
        try Data(file).write(to: place)
        defer { try? FileManager.default.removeItem(at: place) }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = ["-r", place.path] + arguments
        for name in ["ip.check_checksum", "udp.check_checksum"] { process.arguments? += ["-o", "\(name):TRUE"] }
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let text = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return String(decoding: text, as: UTF8.self)
    }
}

// The macros of Testing cannot take spans: arrays serve.
extension Message {
    init?(_ bytes: [UInt8]) { self.init(bytes.span) }
}

extension GeneralQuery {
    init?(_ packet: [UInt8]) { self.init(packet.span) }
}

extension MembershipReport {
    init(_ packet: [UInt8]) throws(Problem) { try self.init(packet.span) }
}

extension SipHash {
    func hash(_ octets: [UInt8]) -> UInt64 { hash(octets.span) }
}

extension DataHeader {
    init?(_ packet: [UInt8]) { self.init(packet.span) }
}
