import Cryptography
import Operation
import QUIC
import Reactor
import Transport
import Wire

/// QUIC handshakes in memory, client and server on one thread, beside the TLS handshakes that OpenSSL does by itself with
/// the same certificate and key. A handshake is over when the client's is confirmed and it holds a ticket.
package final class HandshakeTrial {
    package enum Kind: String, CaseIterable, Sendable {
        case full, resumed
    }

    private let server: TLSContext
    private let client: TLSContext
    private let alone: HandshakesAlone
    private let admission: Admission
    private var random: SeededRandom
    private var ticket: [UInt8]?
    private var toServer = [UInt8](repeating: 0, count: 2048)
    private var toClient = [UInt8](repeating: 0, count: 2048)
    private let meter = TurnMeter()
    private var counted = EndCounts()

    private static let clientAddress = SocketAddress(.v4(0xc000_0201), port: 5000)
    private static let serverAddress = SocketAddress(.v4(0xc000_0202), port: 4433)
    private static let name = "source.test"
    /// Datagrams that a handshake may take: a few on each side are enough.
    private static let patience = 64

    package init() throws {
        server = try TLSContext.server(selfSignedFor: [Self.name], alpn: [applicationProtocol])
        client = try TLSContext.client(trust: .none, alpn: [applicationProtocol])
        alone = try HandshakesAlone(server)
        random = randomSeed()
        admission = Admission(random: SeededRandom(from: &random), at: Reactor.clock())
        // The first leaves tickets behind.
        try handshake(.full)
        guard alone.handshake(resuming: false) == false else { throw EndpointError("OpenSSL alone fails a handshake") }
    }

    /// Nanoseconds of CPU for `count` handshakes, both ends together: QUIC's, and those of OpenSSL alone.
    package func round(_ kind: Kind, count: Int) throws -> (quic: Int64, alone: Int64) {
        let before = (Reactor.clock(), Meters.allocations, Meters.copied)
        let start = Meters.threadTime
        for _ in 0..<count { try meter.measure { try handshake(kind) } }
        let middle = Meters.threadTime
        counted.time += (Reactor.clock() - before.0).nanoseconds
        counted.cpu += middle - start
        if let now = Meters.allocations, let then = before.1 {
            counted.allocations = (counted.allocations ?? 0) + now - then
        }
        if let now = Meters.copied, let then = before.2 { counted.copied = (counted.copied ?? 0) + now - then }
        for _ in 0..<count {
            guard alone.handshake(resuming: kind == .resumed) == (kind == .resumed) else {
                throw EndpointError("OpenSSL alone fails a \(kind.rawValue) handshake")
            }
        }
        return (middle - start, Meters.threadTime - middle)
    }

    /// The datagrams of both ends in all rounds so far, and what they took. Nothing goes through the kernel.
    package var counts: EndCounts {
        var counts = counted
        meter.fill(&counts)
        return counts
    }

    private func handshake(_ kind: Kind) throws {
        // Time goes on by itself: acknowledgements and pacing want some.
        var now = Reactor.clock()
        guard let id = ConnectionID(random.octets(8)) else { preconditionFailure("eight octets make an ID") }
        let client = try SecureConnection(
            client: ConnectionConfiguration(), tls: client, serverName: Self.name, to: Self.serverAddress, localID: id,
            resume: kind == .resumed ? ticket : nil, seed: SeededRandom(from: &random), at: now)
        var server: SecureConnection?
        var isConfirmed = false
        for _ in 0..<Self.patience {
            now += .milliseconds(1)
            if let count = transmit(client, into: &toServer, at: now) {
                if server == nil { server = try accept(Array(toServer[..<count]), at: now) }
                if let server { Self.deliver(&toServer, count, from: Self.clientAddress, to: server, at: now) }
                while server?.nextEvent(at: now) != nil {}
            }
            guard let server else { break }
            while let count = transmit(server, into: &toClient, at: now) {
                Self.deliver(&toClient, count, from: Self.serverAddress, to: client, at: now)
                while let event = client.nextEvent(at: now) {
                    if case .confirmed = event { isConfirmed = true }
                }
            }
            if isConfirmed, let ticket = client.sessionTicket {
                self.ticket = ticket
                guard client.isResumed == (kind == .resumed) else { break }
                return
            }
        }
        throw EndpointError("a \(kind.rawValue) handshake fails in memory")
    }

    private func accept(_ datagram: [UInt8], at now: Instant) throws -> SecureConnection {
        guard case .admit(let admitted) = admission.judge(datagram.span, from: Self.clientAddress, at: now) else {
            throw EndpointError("a handshake's first datagram is not let in")
        }
        let (id, resetToken) = admission.newConnectionID()
        return try SecureConnection(
            server: ConnectionConfiguration(), tls: server, admitted: admitted, localID: id, resetToken: resetToken,
            seed: SeededRandom(from: &random), at: now)
    }

    private static func deliver(
        _ buffer: inout [UInt8], _ count: Int, from: SocketAddress, to end: SecureConnection, at now: Instant
    ) {
        var none = NoExtension()
        var room = buffer.mutableSpan
        var datagram = room._mutatingExtracting(0..<count)
        end.receive(&datagram, from: from, to: nil, ecn: .notECT, at: now, extension: &none)
    }

    /// Octets of the next datagram.
    private func transmit(_ end: SecureConnection, into buffer: inout [UInt8], at now: Instant) -> Int? {
        var span = buffer.mutableSpan
        guard let count = end.transmit(into: &span, at: now)?.count else { return nil }
        counted.packets += 1
        counted.octets += UInt64(count)
        return count
    }
}
