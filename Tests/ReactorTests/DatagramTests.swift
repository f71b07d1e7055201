import Glibc
import Reactor
import Testing
import Wire

/// Keeps what arrives, and looks at nothing else.
final class Collector: DatagramHandler {
    struct Datagram: Equatable {
        var bytes: [UInt8]
        var source: SocketAddress
        var local: SocketAddress
        var ecn: ECN
    }

    var datagrams: [Datagram] = []
    var batches = 0
    var writable = 0

    func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
        batches += 1
        for index in 0..<batch.count {
            let source = batch.source(index)
            let local = batch.local(index)
            let ecn = batch.ecn(index)
            let bytes = batch.withBytes(index) { [UInt8]($0.span) }
            datagrams.append(Datagram(bytes: bytes, source: source, local: local, ecn: ecn))
        }
    }

    func socketBecameWritable(_ socket: UDPSocket) { writable += 1 }
}

extension UDPSocket {
    /// Queues `bytes` as one datagram; false when there was no room.
    @discardableResult
    func send(_ bytes: [UInt8], to: SocketAddress, from: IPAddress? = nil, ecn: ECN = .notECT) -> Bool {
        let room: Void? = withSendBuffer(bytes.count) { buffer in
            for index in bytes.indices { buffer[index] = bytes[index] }
        }
        guard room != nil else { return false }
        enqueue(bytes.count, to: to, from: from, ecn: ecn)
        return true
    }
}

@Suite struct DatagramTests {
    @Test(arguments: [Reactor.IO.epoll, .ioUring], ["127.0.0.1:0", "[::1]:0"])
    func datagramsComeAcrossTheLoopback(io: Reactor.IO, address: String) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let bind = try #require(SocketAddress(address))
        let sender = try reactor.udpSocket(bind: bind)
        let receiver = try reactor.udpSocket(bind: bind)
        let collector = Collector()
        receiver.handler = collector
        var sent: [[UInt8]] = []
        for number in 0..<500 {
            let bytes = [UInt8](repeating: UInt8(number & 255), count: number % 7 == 0 ? number : 1200)
            sent.append(bytes)
            #expect(sender.send(bytes, to: receiver.localAddress))
        }
        while collector.datagrams.count < sent.count { reactor.turn() }
        #expect(collector.datagrams.map(\.bytes) == sent)
        #expect(collector.datagrams.allSatisfy { $0.source == sender.localAddress })
        #expect(collector.datagrams.allSatisfy { $0.local == receiver.localAddress })
        #expect(reactor.counters.datagramsOut == 500)
        #expect(reactor.counters.datagramsIn == 500)
        #expect(reactor.counters.messagesOut < 250)
    }
}
