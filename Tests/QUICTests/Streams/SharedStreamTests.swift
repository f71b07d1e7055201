import Testing
import Wire

@testable import QUIC

/// The server's unidirectional streams on a connection that negotiated Flexicast.
@Suite struct SharedStreamTests {
    let limits = StreamLimits.small(data: 1000, stream: 500, streams: 4)

    @Test func aLateListenerStartsAnywhere() throws {
        var (client, _) = makePair(client: limits, shared: true)
        for index in 100_000..<100_400 as Range<UInt64> {
            let id = shared(index)
            try client.receive(id, 0, content(of: id, 0..<90), fin: true, .flow)
            let chunk = try unwrap(client.read(id))
            #expect(chunk.isFinished && chunk.octetsFromFlow == 90 && chunk.octetsFromUnicast == 0)
            _ = client.allEvents()
        }
        #expect(client.openReceiveCount == 0)
        #expect(client.finished.unidirectional.count == 1, "100 000 numbers never seen cost nothing")
        #expect(client.openedByPeer.unidirectional == 400)
        #expect(client.maxStreams.unidirectional == 404)
        #expect(client.dataReceived == 36000 && client.dataConsumed == 36000)
        // Late copies of what is over.
        try client.receive(shared(100_200), 0, [1], .unicast)
        #expect(client.openReceiveCount == 0 && client.allEvents().isEmpty)
        // History from before the start is not "over".
        try client.receive(shared(99_990), 0, [1], fin: true, .unicast)
        #expect(client.read(shared(99_990))?.bytes == [1])
    }

    @Test func aPlainConnectionCountsByNumber() throws {
        var (client, _) = makePair(client: limits)
        #expect(errorCode { try client.receive(shared(100_000), 0, [1]) } == .streamLimitError)
    }

    /// Many gaps: what is missing in each may still come, so none is given up. The flow has to wait instead, and what comes by
    /// unicast to fill a gap is taken, the lowest as well.
    @Test func aGapStaysOpenUntilItIsFilled() throws {
        var (client, _) = makePair(client: limits, shared: true)
        let count = UInt64(StreamBounds.finishedRanges) + 50
        for index in 0..<count {
            try client.receive(shared(10 + 2 * index), 0, [1], fin: true, .flow)
            _ = client.read(shared(10 + 2 * index))
        }
        #expect(client.finished.unidirectional.count == StreamBounds.finishedRanges)
        #expect(client.statistics.streamsRefusedForGaps == 50)
        #expect(client.statistics.framesRefused == 50, "their packets are not acknowledged, so that they are repaired")
        _ = client.allEvents()
        // The next of an unbroken run begins no gap.
        let last = 10 + 2 * (UInt64(StreamBounds.finishedRanges) - 1)
        try client.receive(shared(last + 1), 0, [1], fin: true, .flow)
        #expect(client.read(shared(last + 1))?.isFinished == true)
        for index in 0..<count {
            let repaired = shared(11 + 2 * index)
            try client.receive(repaired, 0, [7], fin: true)
            if repaired.index != last + 1 {
                #expect(client.read(repaired)?.bytes == [7], "stream \(repaired.index) was never received before")
            }
            let refused = shared(10 + 2 * index)
            try client.receive(refused, 0, [1], fin: true, .flow)
            _ = client.read(refused)
        }
        #expect(client.finished.unidirectional.count == 1)
        #expect(client.statistics.streamsFinished == 2 * count)
    }

    /// A stream that is open lies in a gap as well.
    @Test func aStreamUnderRepairOutlivesManyOthers() throws {
        var (client, _) = makePair(client: limits, shared: true)
        try client.receive(shared(9), 0, [1], .flow)
        for index in 0..<UInt64(StreamBounds.finishedRanges) + 50 {
            try client.receive(shared(8 + 3 * index), 0, [1], fin: true, .flow)
            _ = client.read(shared(8 + 3 * index))
        }
        try client.receive(shared(9), 1, [2], fin: true)
        #expect(client.read(shared(9))?.bytes == [1, 2])
    }

    /// A source that opens streams with gaps on the connection itself, and never fills them, comes to an end.
    @Test func gapsOnTheConnectionAreBounded() throws {
        var (client, _) = makePair(client: limits, shared: true)
        for index in 0..<UInt64(StreamBounds.mostFinishedRanges) {
            try client.receive(shared(2 * index), 0, [1], fin: true)
            _ = client.read(shared(2 * index))
            _ = client.allEvents()
        }
        let next = shared(2 * UInt64(StreamBounds.mostFinishedRanges) + 1)
        #expect(errorCode { try client.receive(next, 0, [1], fin: true) } == .internalError)
        #expect(client.finished.unidirectional.count == StreamBounds.mostFinishedRanges)
    }

    /// Without a shared space the numbers are dense, and no more of them apart than a window has streams.
    @Test func aPlainConnectionHasNoMoreRangesThanItsWindow() throws {
        let limits = StreamLimits.small(data: 100_000, stream: 500, streams: 3000)
        var (client, _) = makePair(client: limits)
        for index in stride(from: UInt64(1), to: 3000, by: 2) {
            try client.receive(shared(index), 0, [1], fin: true)
            _ = client.read(shared(index))
        }
        #expect(client.finished.unidirectional.count == 1500)
        try client.receive(shared(0), 0, [9], fin: true)
        #expect(client.read(shared(0))?.bytes == [9])
        #expect(client.finished.unidirectional.count <= 3001)
    }

    /// Half from the flow, half from unicast, each octet charged once.
    @Test func bothWaysMerge() throws {
        var (client, _) = makePair(client: limits, shared: true)
        let id = shared(50)
        let bytes = content(of: id, 0..<300)
        try client.receive(id, 0, [UInt8](bytes[0..<100]), .flow)
        try client.receive(id, 200, [UInt8](bytes[200..<300]), fin: true, .flow)
        #expect(client.dataReceived == 200, "octets seen, not the highest offset")
        try client.receive(id, 50, [UInt8](bytes[50..<250]), .unicast)
        try client.receive(id, 0, bytes, fin: true, .unicast)
        #expect(client.dataReceived == 300)
        #expect(
            client.read(id)
                == StreamChunk(bytes: bytes, offset: 0, isFinished: true, octetsFromFlow: 200, octetsFromUnicast: 100))
        #expect(client.statistics.octetsDuplicate == 400)
    }

    /// Beyond the limits, the flow is refused and unicast is a violation. The window is granted twice over.
    @Test func theConnectionLimitOnTheFlow() throws {
        var (client, _) = makePair(client: limits, shared: true)
        for index in 0..<4 as Range<UInt64> {
            try client.receive(shared(index), 0, content(of: shared(index), 0..<500), .flow)
        }
        #expect(client.dataReceived == 2000 && client.statistics.octetsRefused == 0)
        try client.receive(shared(7), 0, [1, 2], .flow)
        #expect(client.statistics.octetsRefused == 2 && client.statistics.framesRefused == 1)
        #expect(client.read(shared(7)) == nil && client.dataReceived == 2000)
        #expect(errorCode { try client.receive(shared(7), 0, [1]) } == .flowControlError)
        // What was seen before is no burden.
        try client.receive(shared(0), 0, content(of: shared(0), 0..<500), .unicast)
        _ = client.read(shared(0))
        try client.receive(shared(7), 0, [1, 2], .flow)
        #expect(client.read(shared(7))?.bytes == [1, 2])
    }

    @Test func theStreamLimitsOnTheFlow() throws {
        var (client, _) = makePair(client: limits, shared: true)
        // The middle of a long stream that began before the listener came.
        try client.receive(shared(1), 5000, [1], .flow)
        #expect(client.statistics.framesRefused == 1)
        #expect(errorCode { try client.receive(shared(1), 5000, [1]) } == .flowControlError)
        for index in 1..<8 as Range<UInt64> { try client.receive(shared(index), 0, [1], .flow) }
        try client.receive(shared(9000), 0, [1], .flow)
        #expect(client.statistics.framesRefused == 1)
        try client.receive(shared(9001), 0, [1], .flow)
        #expect(client.statistics.framesRefused == 2)
        #expect(errorCode { try client.receive(shared(9001), 0, [1]) } == .streamLimitError)
    }

    /// Nothing limits the size that a reset of a shared stream names.
    @Test func resetsOfAnySizeAreCharged() throws {
        var table = makePair(shared: true).client
        for index in UInt64(0)..<8 {
            try table.resetReceived(
                StreamID(initiator: .server, bidirectional: false, index: index), code: 0, finalSize: Varint.max)
            while table.nextEvent() != nil {}
        }
        #expect(table.packets().count > 0)
    }

    @Test func aResetOnTheFlow() throws {
        var (client, _) = makePair(client: limits, shared: true)
        let id = shared(1234)
        try client.receive(id, 100, [1, 2], .flow)
        try client.resetReceived(id, code: 9, finalSize: 400, origin: .flow)
        #expect(client.allEvents() == [.reset(id, code: 9)])
        #expect(client.openReceiveCount == 0 && client.dataReceived == 400 && client.dataConsumed == 400)
    }

    @Test func theSourceOpensOnlyTheFlowsNumbers() throws {
        var (client, server) = makePair(client: limits, shared: true)
        #expect(throws: StreamsExhausted.self) { try server.open(bidirectional: false) }
        server.sendRange(shared(77_000), bytes: [1, 2, 3], range: 0..<3, fin: true, counted: true)
        // Its content is the flow's too.
        #expect(throws: StreamError.unknownStream) { try server.write(shared(77_000), [4], fin: true) }
        // A private stream, or one of the other end's, is none of the flow's.
        for id in [StreamID(1), StreamID(2)] {
            server.sendRange(id, bytes: [1], range: 0..<1, fin: true, counted: true)
        }
        try exchange(&client, &server)
        #expect(client.read(shared(77_000))?.bytes == [1, 2, 3])
        #expect(server.streamCredit == 3)
        #expect(server.allEvents() == [.sendCompleted(shared(77_000))])
    }

    @Test func theSourceWaitsForStreamCredit() throws {
        var (client, server) = makePair(client: limits, shared: true)
        for index in 500..<506 as Range<UInt64> {
            server.sendRange(shared(index), bytes: [1, 2], range: 0..<2, fin: true, counted: true)
        }
        // A repair of a stream that was charged on the flow does not wait.
        server.sendRange(shared(400), bytes: [1, 2], range: 1..<2, fin: true, counted: false)
        let packets = server.packets()
        let frames = packets.flatMap(\.frames)
        #expect(frames.first == .stream(id: shared(400), offset: 1, length: 1, fin: true))
        #expect(frames.contains(.streamsBlocked(bidirectional: false)))
        #expect(server.streamCredit == 0 && !server.wantsToSend)
        for packet in packets { try client.receive(packet.bytes) }
        for index in 500..<504 as Range<UInt64> { #expect(client.read(shared(index))?.isFinished == true) }
        try exchange(&client, &server)
        #expect(client.read(shared(504))?.isFinished == true && client.read(shared(505))?.isFinished == true)
        #expect(server.sharedStreamsSent == 6)
    }

    @Test func whatWentOverTheFlowIsCharged() throws {
        var (_, server) = makePair(client: limits, shared: true)
        server.chargeExternal(octets: 900, streams: 3)
        #expect(server.sendCredit == 100 && server.streamCredit == 1)
        server.sendRange(shared(9), bytes: [UInt8](repeating: 1, count: 400), range: 0..<400, fin: true, counted: true)
        #expect(server.packets().flatMap(\.frames).contains(.stream(id: shared(9), offset: 0, length: 100, fin: false)))
        #expect(server.sendCredit == 0 && server.streamCredit == 0)
        server.chargeExternal(octets: 50, streams: 1)
        #expect(server.sendCredit == 0 && server.streamCredit == 0)
        server.maxDataReceived(1060)
        #expect(server.sendCredit == 10)
    }

    /// A limit raised while the stream goes over the flow holds when it falls back to unicast.
    @Test func limitsOfStreamsNotOpenHereAreKept() throws {
        var (_, server) = makePair(client: limits, shared: true)
        for index in 0..<UInt64(StreamBounds.sharedStreamLimits + 5) {
            try server.maxStreamDataReceived(shared(index), 2000)
        }
        #expect(server.sharedStreamLimits.count == StreamBounds.sharedStreamLimits)
        let bytes = [UInt8](repeating: 1, count: 2000)
        func sent(_ id: StreamID) -> Int {
            server.sendRange(id, bytes: bytes, range: 400..<900, fin: false, counted: true)
            return server.packets().flatMap(\.frames).reduce(0) { sum, frame in
                guard case .stream(_, _, let length, _) = frame else { return sum }
                return sum + length
            }
        }
        #expect(sent(shared(1000)) == 500)
        #expect(sent(shared(0)) == 100, "the oldest was forgotten")
    }
}

@Suite struct SendRangeTests {
    let id = shared(5)
    let bytes = content(of: shared(5), 0..<1000)

    private func server() -> StreamTable { makePair(shared: true).server }

    private func ranges(_ packets: [TestPacket]) -> [Range<UInt64>] {
        packets.flatMap(\.frames).compactMap { frame in
            guard case .stream(_, let offset, let length, _) = frame else { return nil }
            return offset..<(offset + UInt64(length))
        }
    }

    @Test func overlappingRangesGoOutOnce() throws {
        var (client, server) = makePair(shared: true)
        server.sendRange(id, bytes: bytes, range: 700..<1000, fin: true, counted: true)
        server.sendRange(id, bytes: bytes, range: 0..<300, fin: false, counted: true)
        server.sendRange(id, bytes: bytes, range: 200..<800, fin: false, counted: true)
        let sent = server.packets(150)
        #expect(ranges(sent).reduce(0) { $0 + $1.count } == 1000)
        #expect(server.dataSent == 1000 && server.sharedStreamsSent == 1)
        // All of it is on its way: this connection will see to it.
        server.sendRange(id, bytes: bytes, range: 0..<1000, fin: true, counted: true)
        server.sendRange(id, bytes: bytes, range: 0..<1000, fin: true, counted: false)
        #expect(!server.wantsToSend && server.dataSent == 1000 && server.sharedStreamsSent == 1)
        for packet in sent.reversed() { try client.receive(packet.bytes) }
        #expect(client.read(id)?.bytes == bytes)
        for packet in sent { server.acknowledge(packet) }
        #expect(server.allEvents() == [.sendCompleted(id)] && server.openSendCount == 0)
    }

    @Test func repairsAreNotCharged() throws {
        var server = server()
        server.sendRange(id, bytes: bytes, range: 100..<200, fin: false, counted: false)
        server.sendRange(id, bytes: bytes, range: 600..<700, fin: false, counted: false)
        let sent = server.packets()
        #expect(ranges(sent) == [100..<200, 600..<700])
        #expect(server.dataSent == 0 && server.sharedStreamsSent == 0)
        server.acknowledge(sent[0])
        #expect(server.allEvents() == [.sendCompleted(id)])
        // A second loss of the same stream, later.
        server.sendRange(id, bytes: bytes, range: 900..<1000, fin: true, counted: false)
        #expect(server.packets().flatMap(\.frames) == [.stream(id: id, offset: 900, length: 100, fin: true)])
    }

    @Test func aRepairTakesOverFreshOctets() {
        var server = server()
        server.sendRange(id, bytes: bytes, range: 0..<1000, fin: true, counted: true)
        server.sendRange(id, bytes: bytes, range: 0..<400, fin: false, counted: false)
        #expect(ranges(server.packets()).first == 0..<400)
        #expect(server.dataSent == 600 && server.sharedStreamsSent == 0)
    }

    @Test func lossesAreRepairedHere() throws {
        var (client, server) = makePair(shared: true)
        server.sendRange(id, bytes: bytes, range: 250..<750, fin: false, counted: false)
        let sent = server.packets(200)
        server.lose(sent[1])
        let again = server.packets(200)
        #expect(ranges(again) == ranges([sent[1]]))
        for packet in again + sent where packet.bytes != sent[1].bytes || packet.frames != sent[1].frames {
            try client.receive(packet.bytes)
        }
        for packet in again + [sent[0]] + sent[2...] { server.acknowledge(packet) }
        #expect(server.allEvents() == [.sendCompleted(id)])
    }

    /// An empty item is a stream all the same.
    @Test func anEmptyRangeThatEndsAStreamIsSent() {
        var server = server()
        let empty = shared(6)
        server.sendRange(empty, bytes: [], range: 0..<0, fin: true, counted: true)
        #expect(server.packets().flatMap(\.frames) == [.stream(id: empty, offset: 0, length: 0, fin: true)])
        #expect(server.sharedStreamsSent == 1)
    }

    @Test func aResetSharedStreamHasItsWholeSize() throws {
        var (client, server) = makePair(shared: true)
        server.sendRange(id, bytes: bytes, range: 0..<900, fin: false, counted: true)
        server.chargeExternal(octets: 100, streams: 0)
        try client.receive(id, 900, [UInt8](bytes[900..<1000]), fin: true, .flow)
        _ = client.allEvents()
        try client.receive(server.packet(400)!.bytes)
        server.reset(id, code: 3)
        try exchange(&client, &server)
        #expect(client.dataReceived == 1000 && server.dataSent == 1000, "both ends count all of it")
        #expect(client.allEvents().last == .reset(id, code: 3))
        #expect(client.openReceiveCount == 0 && server.openSendCount == 0)
    }
}
