import Foundation
import Wire

@testable import AMT

/// A relay with many gateways, in this process and without sockets: what one of them costs.
struct ScaleRun {
    struct Result: CustomStringConvertible {
        var name: String
        var count: Int
        /// Octets of resident memory for each endpoint once all have joined, and once all have come again.
        var octetsJoined = 0
        var octetsRefreshed = 0
        /// Request, Query and Update of one endpoint, checks and all.
        var joinSeconds = 0.0
        var refreshSeconds = 0.0
        /// The end of one endpoint whose time is over.
        var expirySeconds = 0.0
        /// Finding all destinations of one packet.
        var lookupSeconds = 0.0

        var description: String {
            func microseconds(_ seconds: Double) -> Double { (seconds * 1e8).rounded() / 100 }
            return """
                \(name): \(count) endpoints, \(octetsJoined) octets each (\(octetsRefreshed) after a refresh), \
                \(Int(1 / joinSeconds)) joins/s, refresh \(microseconds(refreshSeconds)) us \
                each, expiry \(microseconds(expirySeconds)) us each, lookup \(microseconds(lookupSeconds)) us a packet
                """
        }
    }

    enum Kind: String, CaseIterable {
        case ipv4GroupEach
        case ipv6GroupEach
        case oneGroup
    }

    let kind: Kind
    let count: Int
    private var relay: Relay
    private var now = Instant(nanoseconds: 1_000_000_000)

    init(_ kind: Kind, count: Int) {
        self.kind = kind
        self.count = count
        var configuration = RelayConfiguration()
        configuration.upstreamLimit = count
        // All come within the same moment here.
        configuration.strangerBurst = count
        relay = Relay(configuration: configuration, seed: SeededRandom(seed: 7), at: now)
    }

    private func gateway(_ index: Int) -> SocketAddress {
        let port = UInt16(20_000 + index % 1000)
        if kind == .ipv6GroupEach {
            return SocketAddress(.v6(0x2001_0db8 << 96 | UInt128(index) << 64 | 1), port: port)
        }
        return SocketAddress(.v4(0x0a00_0000 + UInt32(index)), port: port)
    }

    private func channel(_ index: Int) -> (source: IPAddress, group: IPAddress) {
        switch kind {
        case .ipv4GroupEach: (.v4(0xc000_0201), .v4(0xe801_0000 + UInt32(index)))
        case .ipv6GroupEach: (.v6(0x2001_0db8 << 96 | 9), .v6(0xff3e << 112 | 0x8000_0000 + UInt128(index)))
        case .oneGroup: (.v4(0xc000_0201), .v4(0xe801_0000))
        }
    }

    /// One cycle of a gateway, as a shell runs it. False when the relay does not play along.
    private mutating func cycle(_ index: Int) -> Bool {
        let family: DataFamily = kind == .ipv6GroupEach ? .ipv6 : .ipv4
        let gateway = gateway(index)
        let (source, group) = channel(index)
        let request = Message.request(Message.Request(nonce: UInt32(index) + 1, family: family)).bytes
        let local: IPAddress = kind == .ipv6GroupEach ? .v6(0x2001_0db8 << 96 | 2) : .v4(0xc633_6401)
        guard let answer = relay.datagramReceived(request.span, from: gateway, to: local, at: now),
            case .query(let query) = Message(answer.span)
        else { return false }
        let report = MembershipReport(family: family, records: [GroupRecord(.isInclude, group, [source])]).packet()
        let update = Message.update(mac: query.mac, nonce: query.nonce).bytes(datagram: report)
        _ = relay.datagramReceived(update.span, from: gateway, to: local, at: now)
        while relay.nextUpstreamChange() != nil {}
        return true
    }

    mutating func run() -> Result? {
        var result = Result(name: kind.rawValue, count: count)
        let before = residentOctets()
        var start = Self.seconds()
        for index in 0..<count where !cycle(index) { return nil }
        result.joinSeconds = (Self.seconds() - start) / Double(count)
        guard relay.endpointCount == count, relay.upstreamCount == (kind == .oneGroup ? 1 : count) else { return nil }
        result.octetsJoined = (residentOctets() - before) / count

        now += .seconds(100)
        start = Self.seconds()
        for index in 0..<count where !cycle(index) { return nil }
        result.refreshSeconds = (Self.seconds() - start) / Double(count)
        guard relay.endpointCount == count, relay.counters.endpointsOpened == UInt64(count) else { return nil }
        // The first deadlines come and go: nobody has left.
        now += .seconds(200)
        relay.timerFired(at: now)
        guard relay.endpointCount == count else { return nil }
        result.octetsRefreshed = (residentOctets() - before) / count

        var slots: [Int] = []
        slots.reserveCapacity(count)
        let lookups = kind == .oneGroup ? 20 : min(count, 2000)
        start = Self.seconds()
        for index in 0..<lookups {
            slots.removeAll(keepingCapacity: true)
            let (source, group) = channel(index * (count / lookups))
            relay.collectDestinations(source: source, group: group, into: &slots)
            guard slots.count == (kind == .oneGroup ? count : 1) else { return nil }
        }
        result.lookupSeconds = (Self.seconds() - start) / Double(lookups)

        now += .seconds(1000)
        start = Self.seconds()
        relay.timerFired(at: now)
        while relay.nextUpstreamChange() != nil {}
        result.expirySeconds = (Self.seconds() - start) / Double(count)
        guard relay.endpointCount == 0, relay.upstreamCount == 0 else { return nil }
        return result
    }

    private static func seconds() -> Double { start.duration(to: .now) / .seconds(1) }
    private static let start = ContinuousClock.now
}

/// Octets of this process in memory.
func residentOctets() -> Int {
    let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
    return (text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) * 4096
}
