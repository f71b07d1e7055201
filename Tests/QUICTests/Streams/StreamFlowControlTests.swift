import Testing
import Wire

@testable import QUIC

@Suite struct StreamFlowControlTests {
    @Test func theConnectionLimitBlocksAndOpens() throws {
        var (client, server) = makePair(server: .small(data: 100, stream: 1000, streams: 4))
        let id = try client.open(bidirectional: false)
        try client.write(id, content(of: id, 0..<250), fin: true)
        let first = client.packets()
        #expect(
            first.map(\.frames).reduce([], +) == [.stream(id: id, offset: 0, length: 100, fin: false), .dataBlocked])
        #expect(!client.wantsToSend && client.sendCredit == 0)
        for packet in first { try server.receive(packet.bytes) }
        #expect(!server.wantsToSend, "the window opens when the application reads")
        var read = server.read(id)!.bytes
        #expect(server.maxData == 200)
        try exchange(&client, &server)
        read += server.read(id)!.bytes
        try exchange(&client, &server)
        let last = try unwrap(server.read(id))
        #expect(last.isFinished && read + last.bytes == content(of: id, 0..<250))
        #expect(client.allEvents().contains(.writable))
    }

    @Test func theStreamLimitBlocksOneStreamOnly() throws {
        var (client, server) = makePair(server: .small(data: 1000, stream: 60, streams: 4))
        let blocked = try client.open(bidirectional: true)
        let free = try client.open(bidirectional: false)
        try client.write(blocked, content(of: blocked, 0..<100), fin: true)
        try client.write(free, content(of: free, 0..<60), fin: true)
        let frames = client.packets().flatMap { packet in
            for packet in [packet] { try? server.receive(packet.bytes) }
            return packet.frames
        }
        #expect(frames.contains(.streamDataBlocked(blocked)))
        #expect(server.read(free)?.isFinished == true)
        #expect(server.read(blocked)?.bytes.count == 60)
        let update = try unwrap(server.packet())
        #expect(update.frames.contains(.maxStreamData(blocked)))
        try client.receive(update.bytes)
        try exchange(&client, &server)
        #expect(server.read(blocked)?.bytes == content(of: blocked, 60..<100))
    }

    @Test func theNumberOfStreamsIsLimitedAndRaised() throws {
        var (client, server) = makePair(server: .small(data: 1000, stream: 100, streams: 2))
        for _ in 0..<2 { try client.write(client.open(bidirectional: false), [1], fin: true) }
        #expect(client.streamCredit == 0)
        #expect(throws: StreamsExhausted.self) { try client.open(bidirectional: false) }
        #expect(throws: StreamsExhausted.self) { try client.open(bidirectional: false) }
        let packets = client.packets()
        #expect(packets.flatMap(\.frames).filter { $0 == .streamsBlocked(bidirectional: false) }.count == 1)
        for packet in packets { try server.receive(packet.bytes) }
        _ = server.read(StreamID(2))
        try exchange(&client, &server)
        #expect(client.allEvents() == [.writable])
        #expect(try client.open(bidirectional: false) == StreamID(10))
        #expect(throws: StreamsExhausted.self) { try client.open(bidirectional: false) }
        #expect(try client.open(bidirectional: true) == StreamID(0), "the other kind has a limit of its own")
    }

    /// A bidirectional stream gives its place back when both its parts are over.
    @Test func aBidirectionalStreamCountsUntilBothPartsEnd() throws {
        var (client, server) = makePair(server: .small(data: 1000, stream: 100, streams: 1))
        let id = try client.open(bidirectional: true)
        try client.write(id, [1], fin: true)
        try exchange(&client, &server)
        _ = server.read(id)
        #expect(server.maxStreams.bidirectional == 1)
        try server.write(id, [2], fin: true)
        let answer = try unwrap(server.packet())
        #expect(server.maxStreams.bidirectional == 1)
        server.acknowledge(answer)
        #expect(server.maxStreams.bidirectional == 2)
        #expect(server.packet()?.frames == [.maxStreams(bidirectional: true)])
    }

    @Test func lostWordOfBeingBlockedIsSentAgainWhileItIsTrue() throws {
        var (client, _) = makePair(server: .small(data: 100, stream: 60, streams: 2))
        let ids = try (0..<2).map { _ in try client.open(bidirectional: false) }
        for id in ids { try client.write(id, content(of: id, 0..<100), fin: true) }
        #expect(throws: StreamsExhausted.self) { try client.open(bidirectional: false) }
        let blocked = client.packets().flatMap(\.frames).filter { if case .stream = $0 { false } else { true } }
        #expect(
            blocked.sorted { "\($0)" < "\($1)" }
                == [.dataBlocked, .streamDataBlocked(ids[0]), .streamsBlocked(bidirectional: false)])
        for frame in blocked {
            client.frameLost(frame)
            #expect(client.packet()?.frames == [frame])
        }
        client.maxDataReceived(100_000)
        try client.maxStreamDataReceived(ids[0], 1000)
        try client.maxStreamsReceived(bidirectional: false, 10)
        for frame in blocked { client.frameLost(frame) }
        let rest = client.packets().flatMap(\.frames)
        #expect(rest.allSatisfy { !blocked.contains($0) })
    }

    @Test func lostLimitsAreSentAgainAsTheyAreNow() throws {
        var (_, server) = makePair(server: .small(data: 100, stream: 100, streams: 1))
        try server.receive(StreamID(2), 0, [UInt8](repeating: 0, count: 50))
        _ = server.read(StreamID(2))
        let update = try unwrap(server.packet())
        #expect(update.frames == [.maxData, .maxStreamData(StreamID(2))])
        #expect(!server.wantsToSend)
        server.lose(update)
        #expect(server.packet()?.bytes == update.bytes)
        try server.receive(StreamID(2), 50, [1], fin: true)
        server.lose(update)
        #expect(server.packet()?.frames == [.maxData], "no limit for a stream whose size is known")
    }

    @Test func theWindowOpensAtHalfOfIt() throws {
        var (_, server) = makePair(server: .small(data: 1000, stream: 1000, streams: 1))
        try server.receive(StreamID(2), 0, [UInt8](repeating: 0, count: 499))
        _ = server.read(StreamID(2))
        #expect(!server.wantsToSend)
        try server.receive(StreamID(2), 499, [0])
        _ = server.read(StreamID(2))
        #expect(server.maxData == 1500)
        #expect(server.wantsToSend)
    }

    /// Octets that are gathered give credit as they come, and the whole stream is handed over at its end.
    @Test func gatheringOpensWindows() throws {
        var (_, server) = makePair(server: .small(data: 1000, stream: 1000, streams: 1))
        let id = StreamID(2)
        let bytes = content(of: id, 0..<1200)
        try server.receive(id, 0, [UInt8](bytes[0..<400]))
        #expect(server.gather(id) == .part(400))
        #expect(server.gather(id) == nil, "nothing new")
        #expect(server.bufferedOctets == 0 && server.dataConsumed == 400)
        #expect(!server.wantsToSend)
        try server.receive(id, 500, [UInt8](bytes[500..<900]))
        #expect(server.gather(id) == nil, "beyond a hole")
        try server.receive(id, 400, [UInt8](bytes[400..<500]))
        #expect(server.gather(id) == .part(900))
        #expect(server.packet()?.frames == [.maxData, .maxStreamData(id)])
        #expect(server.maxData == 1900 && server.dataConsumed == 900)
        try server.receive(id, 900, [UInt8](bytes[900..<1200]), fin: true)
        #expect(
            server.gather(id)
                == .whole(
                    StreamChunk(
                        bytes: bytes, offset: 0, isFinished: true, octetsFromFlow: 0, octetsFromUnicast: 1200)))
        #expect(server.dataConsumed == 1200 && server.openReceiveCount == 0)
        #expect(server.gather(id) == nil)
    }

    /// What was gathered gives no credit again, however the stream ends.
    @Test(arguments: ["stop", "stop at the end", "reset", "read"]) func gatheredOctetsCountOnce(end: String) throws {
        var (_, server) = makePair(server: .small(data: 1000, stream: 1000, streams: 1))
        let id = StreamID(2)
        let bytes = content(of: id, 0..<500)
        try server.receive(id, 0, [UInt8](bytes[0..<300]))
        #expect(server.gather(id) == .part(300))
        switch end {
        case "stop":
            try server.receive(id, 300, [UInt8](bytes[300..<400]))
            server.stopSending(id, code: 1)
            #expect(server.gather(id) == nil)
            #expect(server.dataConsumed == 400)
            try server.receive(id, 400, [UInt8](bytes[400..<500]), fin: true)
        case "stop at the end":
            try server.receive(id, 300, [UInt8](bytes[300..<500]), fin: true)
            server.stopSending(id, code: 1)
        case "reset":
            try server.resetReceived(id, code: 1, finalSize: 500)
            #expect(server.gather(id) == nil)
            _ = server.allEvents()
        default:
            try server.receive(id, 300, [UInt8](bytes[300..<400]))
            #expect(
                server.read(id)
                    == StreamChunk(
                        bytes: [UInt8](bytes[0..<400]), offset: 0, isFinished: false, octetsFromUnicast: 400))
            try server.receive(id, 400, [UInt8](bytes[400..<500]), fin: true)
            #expect(
                server.gather(id)
                    == .whole(
                        StreamChunk(
                            bytes: [UInt8](bytes[400..<500]), offset: 400, isFinished: true, octetsFromUnicast: 500)))
        }
        #expect(server.dataReceived == 500 && server.dataConsumed == 500)
        #expect(server.openReceiveCount == 0)
    }

    /// Each end names the limits from its own side (RFC 9000 section 18.2).
    @Test func everyKindOfStreamHasItsOwnLimit() throws {
        let limits = StreamLimits(
            initialMaxData: 10000, initialMaxStreamDataBidiLocal: 11, initialMaxStreamDataBidiRemote: 22,
            initialMaxStreamDataUni: 33, initialMaxStreamsBidi: 9, initialMaxStreamsUni: 9)
        var (client, server) = makePair(client: limits, server: limits)
        func sent(_ table: inout StreamTable, _ id: StreamID) throws -> Int {
            try table.write(id, [UInt8](repeating: 1, count: 100), fin: true)
            var total = 0
            for packet in table.packets() {
                for case .stream(_, _, let length, _) in packet.frames { total += length }
            }
            return total
        }
        let mine = try client.open(bidirectional: true)
        #expect(try sent(&client, mine) == 22)
        #expect(errorCode { try server.receive(mine, 22, [1]) } == .flowControlError)
        try server.receive(mine, 21, [1])
        #expect(try sent(&server, mine) == 11)
        #expect(errorCode { try client.receive(mine, 11, [1]) } == .flowControlError)
        let uni = try client.open(bidirectional: false)
        #expect(try sent(&client, uni) == 33)
        #expect(errorCode { try server.receive(uni, 33, [1]) } == .flowControlError)
    }

    @Test func streamsOpenedBeforeTheHandshakeWait() throws {
        var client = StreamTable(role: .client, local: .generous)
        let ids = try (0..<3).map { _ in try client.open(bidirectional: false) }
        for id in ids { try client.write(id, content(of: id, 0..<50), fin: true) }
        #expect(!client.wantsToSend)
        let limits = StreamLimits.small(data: 1000, stream: 100, streams: 2)
        var server = StreamTable(role: .server, local: limits)
        client.peerParameters(limits)
        try exchange(&client, &server)
        #expect(server.read(ids[0])?.isFinished == true)
        #expect(server.openReceiveCount == 1, "the third waits for MAX_STREAMS")
        #expect(server.read(ids[1])?.isFinished == true)
        try exchange(&client, &server)
        #expect(server.read(ids[2])?.isFinished == true)
    }

    @Test func earlyStreamsAreBounded() throws {
        var client = StreamTable(role: .client, local: .generous)
        for _ in 0..<StreamBounds.earlyStreams { _ = try client.open(bidirectional: true) }
        #expect(throws: StreamsExhausted.self) { try client.open(bidirectional: true) }
    }

    @Test func smallerLimitsAreIgnored() throws {
        var (client, _) = makePair()
        let id = try client.open(bidirectional: false)
        let (data, streams) = (client.peerMaxData, client.peerMaxStreams.bidirectional)
        client.maxDataReceived(3)
        try client.maxStreamsReceived(bidirectional: true, 1)
        try client.maxStreamDataReceived(id, 1)
        try client.write(id, content(of: id, 0..<200), fin: true)
        #expect(client.packet()?.frames == [.stream(id: id, offset: 0, length: 200, fin: true)])
        #expect(client.peerMaxData == data && client.peerMaxStreams.bidirectional == streams)
    }
}
