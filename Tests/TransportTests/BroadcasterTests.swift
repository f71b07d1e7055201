import Cryptography
import Flexicast
import Foundation
import Logging
import Objects
import QUIC
import Reactor
import System
import Testing
import Wire

@testable import Transport

/// The seam that applications stand on: what is written at one end comes out at the other, by any way.
@Suite(.serialized) struct BroadcasterTests {
    private static func quiet() -> Logger { Logger(label: "quiet", factory: { _ in SwiftLogNoOpLogHandler() }) }

    /// A broadcaster with a flow on the loopback interface, and who listens to it, all on one reactor.
    private final class Stage {
        let reactor: Reactor
        let broadcaster: Broadcaster
        private let group: SocketAddress
        private let certificate: URL

        init(
            group: UInt8, retention: Retention = Retention(objects: 1000, octets: 8 << 20), history: Int = 0,
            waiting: Broadcaster.Waiting = .everybody, objects: ObjectLog? = nil
        ) throws {
            reactor = try Reactor(io: .epoll)
            self.group = SocketAddress(.v4(0xef4d_6400 | UInt32(group)), port: 4500 + UInt16(group))
            var options = Broadcaster.Options(listen: SocketAddress(.v4(0x7f00_0001), port: 0))
            options.flow.group = self.group
            options.flow.interface = "lo"
            options.flow.rate = 400_000_000
            options.retention = retention
            options.waiting = waiting
            options.history = history
            options.objects = objects
            broadcaster = try Broadcaster(options, on: reactor, log: quiet())
            certificate = FileManager.default.temporaryDirectory.appending(path: "broadcaster-\(UUID()).pem")
            try Data(broadcaster.certificatePEM.utf8).write(to: certificate)
        }

        deinit {
            reactor.close()
            try? FileManager.default.removeItem(at: certificate)
        }

        func subscriber(
            _ delivery: Subscriber.Delivery = .streamed, usesFlow: Bool = true, elsewhere: Reactor? = nil
        ) throws -> Taker {
            var options = Subscriber.Options(host: "127.0.0.1", port: broadcaster.address.port)
            options.trust = .file(certificate.path)
            options.interface = "lo"
            options.usesFlow = usesFlow
            options.delivery = delivery
            return Taker(try Subscriber(options, on: elsewhere ?? reactor, log: quiet()))
        }

        func turn(for limit: Duration = .seconds(30), until condition: () -> Bool) -> Bool {
            let end = Reactor.clock() + limit
            while !condition() {
                guard Reactor.clock() < end else { return false }
                reactor.turn(timeout: .milliseconds(10))
            }
            return true
        }
    }

    /// A log on disk that is larger than memory: who comes late is read the old ones by a thread, and who is there goes on.
    @Test(arguments: [true, false]) func oldObjectsComeFromTheDisk(usesFlow: Bool) throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "broadcaster-\(UUID())")
        defer { try? FileManager.default.removeItem(at: directory) }
        var random = SystemRandomNumberGenerator()
        let store = try SQLiteLogStore(directory: directory.path, random: &random)
        let stage = try Stage(
            group: usesFlow ? 31 : 32, history: 10_000, objects: try ObjectLog(store, memory: 200_000))
        let bodies = (0..<400).map { index in (0..<5000).map { UInt8(truncatingIfNeeded: $0 &* (index + 3)) } }
        for (index, body) in bodies[..<300].enumerated() { try stage.broadcaster.publish(name: "\(index)", body) }
        try store.flush()
        try stage.broadcaster.publish(name: "300", bodies[300])
        let server = { stage.broadcaster.endpoint.server }
        #expect(server().log.heldOctets < 300_000 && server().log.objectCount == 301)
        let late = try stage.subscriber(.whole, usesFlow: usesFlow)
        #expect(stage.turn { late.whole.count > 20 })
        for (index, body) in bodies.enumerated().dropFirst(301) {
            try stage.broadcaster.publish(name: "\(index)", body)
            stage.reactor.turn(timeout: .zero)
        }
        #expect(stage.turn { late.whole.count == 400 })
        #expect(late.whole.allSatisfy { $0.body == bodies[Int($0.name) ?? 0] })
        #expect(Set(late.whole.map { $0.name }).count == 400 && late.gaps == 0)
        #expect(server().storedPartsRead > 200 && server().readFailures == 0)
        try store.close()
    }

    /// A subscriber and what it has been given.
    private final class Taker {
        struct Object: Equatable {
            var name: String
            var octets = 0
            var digest: UInt64 = 14_695_981_039_346_656_037
            var isFinished = false
            var isReset = false
        }

        let subscriber: Subscriber
        var objects: [UInt64: Object] = [:]
        var whole: [(name: String, body: [UInt8])] = []
        var vias: Set<String> = []
        var gaps = 0
        var datagrams: [(octets: [UInt8], via: Via)] = []
        var isConnected = false
        var isListening = false
        var isServed = false

        init(_ subscriber: Subscriber) {
            self.subscriber = subscriber
            subscriber.onEvent = { [unowned self] event in
                switch event {
                case .connected: isConnected = true
                case .log: isServed = true
                case .listening: isListening = true
                case .object(let object): whole.append((object.name, Array(object.body)))
                case .opened(let header): objects[header.object] = Object(name: header.name)
                case .data(let object, let bytes, let via):
                    vias.insert(via.rawValue)
                    guard var taken = objects[object] else { return }
                    taken.octets += bytes.count
                    taken.digest = BroadcasterTests.digest(bytes, from: taken.digest)
                    objects[object] = taken
                case .finished(let object): objects[object]?.isFinished = true
                case .reset(let failure): objects[failure.object]?.isReset = true
                case .gap: gaps += 1
                case .datagram(let octets, let via): datagrams.append((Array(octets), via))
                case .disconnected, .way, .fellBack, .returned: break
                }
            }
            subscriber.start()
        }

        func has(_ name: String) -> Bool { objects.values.contains { $0.name == name && $0.isFinished } }
    }

    /// FNV-1a.
    private static func digest(_ bytes: some Collection<UInt8>, from start: UInt64) -> UInt64 {
        var hash = start
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 1_099_511_628_211 }
        return hash
    }

    private static func octets(_ count: Int, seed: UInt64) -> [UInt8] {
        var random = SeededRandom(seed: seed)
        return random.octets(count)
    }

    /// An object several times as long as all that the log keeps goes through, to a member of the flow and to a receiver on
    /// unicast, and the writer is held back meanwhile; one that comes later gets what comes after it.
    @Test func anObjectLongerThanTheLogGoesThrough() throws {
        let stage = try Stage(group: 1)
        let member = try stage.subscriber()
        let plain = try stage.subscriber(usesFlow: false)
        try #require(stage.turn { member.isListening && plain.isServed })
        let total = 24 << 20
        let chunk = 100_000
        let object = try stage.broadcaster.open(name: "long", mediaType: "application/octet-stream")
        var written = 0
        var expected: UInt64 = 14_695_981_039_346_656_037
        var waits = 0
        var mayWrite = true
        stage.broadcaster.onRoom = { mayWrite = true }
        var late: Taker?
        let ended = stage.turn(for: .seconds(120)) {
            while mayWrite, written < total {
                let bytes = Self.octets(min(chunk, total - written), seed: UInt64(written))
                expected = Self.digest(bytes, from: expected)
                written += bytes.count
                mayWrite = (try? stage.broadcaster.write(object, bytes)) ?? false
                if !mayWrite { waits += 1 }
            }
            if written >= total / 2, late == nil { late = try? stage.subscriber() }
            return written == total
        }
        try #require(ended, "\(written) of \(total) octets were written")
        try stage.broadcaster.finish(object)
        try stage.broadcaster.publish(name: "after", [1, 2, 3])
        for taker in [member, plain] {
            #expect(stage.turn { taker.has("long") && taker.has("after") })
            let long = taker.objects.values.first { $0.name == "long" }
            #expect(long?.octets == total && long?.digest == expected)
            #expect(taker.gaps == 0)
        }
        #expect(waits > 0, "the writer was never held back")
        #expect(plain.vias == ["unicast"])
        #expect(!member.vias.isDisjoint(with: ["flow", "mixed"]))
        let newcomer = try #require(late)
        #expect(stage.turn { newcomer.has("after") })
        #expect(!newcomer.has("long"))
        stage.broadcaster.close()
    }

    /// A receiver that takes nothing any more: whoever waits for everybody is stopped by it, nobody else.
    @Test(arguments: [Broadcaster.Waiting.everybody, .nearlyAll])
    func whoTakesNothingStopsOnlyWhoWaitsForIt(waiting: Broadcaster.Waiting) throws {
        let stage = try Stage(group: waiting == .everybody ? 4 : 5, waiting: waiting)
        let elsewhere = try Reactor(io: .epoll)
        defer { elsewhere.close() }
        let member = try stage.subscriber()
        let idle = try stage.subscriber(usesFlow: false, elsewhere: elsewhere)
        try #require(
            stage.turn {
                elsewhere.turn(timeout: .zero)
                return member.isListening && idle.isServed
            })
        let object = try stage.broadcaster.open(name: "long")
        let chunk = [UInt8](repeating: 7, count: 200_000)
        var written = 0
        let isThrough = stage.turn(for: .seconds(waiting == .everybody ? 3 : 30)) {
            while stage.broadcaster.room > 0, written < 12 << 20 {
                _ = try? stage.broadcaster.write(object, chunk)
                written += chunk.count
            }
            return written >= 12 << 20
        }
        #expect(isThrough == (waiting == .nearlyAll))
        if waiting == .nearlyAll {
            try stage.broadcaster.finish(object)
            #expect(stage.turn { member.has("long") })
        } else {
            #expect(written <= 6 << 20, "it stops within what receivers may be behind")
        }
        stage.broadcaster.close()
    }

    /// Several objects may be open: they go out one after the other, and what is reset is told.
    @Test func objectsGoOutInTheOrderInWhichTheyWereOpened() throws {
        let stage = try Stage(group: 2)
        let member = try stage.subscriber()
        let plain = try stage.subscriber(usesFlow: false)
        try #require(stage.turn { member.isListening && plain.isServed })
        let first = try stage.broadcaster.open(name: "first")
        let second = try stage.broadcaster.open(name: "second")
        try stage.broadcaster.write(second, [2])
        try stage.broadcaster.finish(second)
        try stage.broadcaster.write(first, [1])
        #expect(stage.turn { [member, plain].allSatisfy { $0.objects.values.contains { $0.name == "first" } } })
        #expect(![member, plain].contains { $0.has("second") })
        stage.broadcaster.reset(first)
        #expect(
            stage.turn {
                [member, plain].allSatisfy { $0.has("second") && $0.objects.values.contains { $0.isReset } }
            })
        #expect(throws: LogError.noObjectOpen) { try stage.broadcaster.write(first, [1]) }
        #expect(throws: LogError.noObjectOpen) { try stage.broadcaster.finish(second) }
        // Of another length than was said: given up, and the next goes on.
        let wrong = try stage.broadcaster.open(name: "wrong", length: 5)
        try stage.broadcaster.write(wrong, [1, 2])
        #expect(throws: LogError.lengthMismatch(declared: 5, actual: 2)) { try stage.broadcaster.finish(wrong) }
        try stage.broadcaster.publish(name: "third", [3])
        #expect(stage.turn { member.has("third") && plain.has("third") })
        #expect(throws: LogError.self) { try stage.broadcaster.open(name: String(repeating: "x", count: 2000)) }
        stage.broadcaster.close()
    }

    /// By the flow to its members, on their connections to the others, and to nobody twice.
    @Test func datagramsComeOnceByEitherWay() throws {
        let stage = try Stage(group: 6)
        let member = try stage.subscriber()
        let plain = try stage.subscriber(usesFlow: false)
        try #require(stage.turn { stage.broadcaster.counts.members == 1 && plain.isServed })
        let most = stage.broadcaster.largestDatagram
        #expect(throws: DatagramError.tooLong(octets: most + 1, most: most)) {
            try stage.broadcaster.sendDatagram([UInt8](repeating: 0, count: most + 1))
        }
        let sent = (0..<20).map { Self.octets($0 == 0 ? most : 10 * $0, seed: UInt64($0)) }
        for datagram in sent { try stage.broadcaster.sendDatagram(datagram) }
        #expect(stage.turn { member.datagrams.count >= 20 && plain.datagrams.count >= 20 })
        // What would come twice has come before this.
        try stage.broadcaster.publish(name: "after", [1])
        #expect(stage.turn { member.has("after") && plain.has("after") })
        #expect(member.datagrams.map(\.octets) == sent && member.datagrams.allSatisfy { $0.via == .flow })
        #expect(plain.datagrams.map(\.octets) == sent && plain.datagrams.allSatisfy { $0.via == .unicast })
        let counts = stage.broadcaster.counts
        #expect(counts.datagramsOnFlow == 20 && counts.datagramsDropped == 0 && counts.datagramsRefused == 0)
        stage.broadcaster.close()
    }

    /// What has ended is reset at who had begun to take it, keeps nobody waiting, and does not come to who comes later.
    @Test func anObjectEndsWithItsLifetime() throws {
        let stage = try Stage(group: 7, history: 10)
        let member = try stage.subscriber()
        let plain = try stage.subscriber(usesFlow: false)
        try #require(stage.turn { stage.broadcaster.counts.members == 1 && plain.isServed })
        func isReset(_ taker: Taker) -> Bool { taker.objects.values.contains { $0.name == "short" && $0.isReset } }
        let object = try stage.broadcaster.open(
            name: "short", lifetime: .until(stage.reactor.now + .milliseconds(500)))
        try stage.broadcaster.write(object, [1, 2, 3])
        let isBegun = stage.turn { [member, plain].allSatisfy { $0.objects.values.contains { $0.octets == 3 } } }
        #expect(isBegun)
        // Behind it, and not begun before it ends.
        let unbegun = try stage.broadcaster.open(
            name: "unbegun", lifetime: .until(stage.reactor.now + .milliseconds(200)))
        try stage.broadcaster.write(unbegun, [4])
        #expect(stage.turn { isReset(member) && isReset(plain) })
        let next = try stage.broadcaster.open(name: "next")
        try stage.broadcaster.write(next, [5])
        try stage.broadcaster.finish(next)
        #expect(stage.turn { member.has("next") && plain.has("next") })
        // They had all that there was of it.
        #expect([member, plain].allSatisfy { $0.gaps == 0 && !$0.objects.values.contains { $0.name == "unbegun" } })
        for ended in [object, unbegun] {
            #expect(throws: LogError.noObjectOpen) { try stage.broadcaster.write(ended, [1]) }
            #expect(throws: LogError.noObjectOpen) { try stage.broadcaster.finish(ended) }
        }
        // One that everybody has ends too, and nobody hears of it.
        try stage.broadcaster.publish(
            name: "taken", lifetime: .until(stage.reactor.now + .milliseconds(500)), [UInt8](repeating: 1, count: 9000))
        #expect(stage.turn { member.has("taken") && plain.has("taken") })
        #expect(stage.turn { stage.broadcaster.counts.objectsExpired == 3 })
        let late = try stage.subscriber()
        #expect(stage.turn { late.has("next") })
        try stage.broadcaster.publish(name: "last", [6])
        #expect(stage.turn { [member, plain, late].allSatisfy { $0.has("last") } })
        #expect(Set(late.objects.values.map(\.name)) == ["next", "last"])
        #expect(member.gaps == 0 && plain.gaps == 0)
        stage.broadcaster.close()
    }

    @Test func objectsComeWholeToWhoWantsThemSo() throws {
        let stage = try Stage(group: 3, history: 10)
        try stage.broadcaster.publish(name: "small", mediaType: "text/plain", [7])
        let large = Self.octets(1 << 20, seed: 3)
        try stage.broadcaster.publish(name: "large", large)
        let member = try stage.subscriber(.whole)
        #expect(stage.turn { member.whole.count == 2 })
        #expect(member.whole.map(\.name) == ["small", "large"] && member.whole[1].body == large)
        stage.broadcaster.close()
    }
}
