import Testing
import Wire

@testable import QUIC

/// Streams from their first octet to their last, with the events the application sees on the way.
@Suite struct StreamStateTests {
    @Test func aStreamThereAndBack() throws {
        var (client, server) = makePair()
        let id = try client.open(bidirectional: true)
        #expect(id == StreamID(0))
        try client.write(id, [1, 2], fin: false)
        try client.write(id, [3], fin: true)
        try exchange(&client, &server)
        #expect(server.allEvents() == [.opened(id), .readable(id)])
        #expect(server.read(id) == StreamChunk(bytes: [1, 2, 3], offset: 0, isFinished: true, octetsFromUnicast: 3))
        #expect(server.read(id) == nil)
        #expect(client.allEvents() == [.sendCompleted(id)])
        try server.write(id, [4], fin: true)
        try exchange(&client, &server)
        #expect(client.allEvents() == [.readable(id)], "our own stream is not announced as opened")
        #expect(client.read(id)?.bytes == [4])
        #expect(client.openReceiveCount + client.openSendCount + server.openReceiveCount + server.openSendCount == 0)
    }

    @Test func readableIsSaidOnceUntilRead() throws {
        var (client, server) = makePair()
        let id = try client.open(bidirectional: false)
        for part in 1...3 as ClosedRange<UInt8> {
            try client.write(id, [part], fin: false)
            try exchange(&client, &server)
        }
        #expect(server.allEvents() == [.readable(id)])
        #expect(server.read(id)?.bytes == [1, 2, 3])
        try client.write(id, [], fin: true)
        try exchange(&client, &server)
        #expect(server.allEvents() == [.readable(id)])
        #expect(server.read(id) == StreamChunk(bytes: [], offset: 3, isFinished: true, octetsFromUnicast: 3))
    }

    @Test func aStreamOfNoOctets() throws {
        var (client, server) = makePair(server: .small(data: 0, stream: 0, streams: 1))
        let id = try client.open(bidirectional: false)
        try client.write(id, [], fin: true)
        let packet = try unwrap(client.packet())
        #expect(packet.bytes == [0x0b, 2, 0])
        #expect(packet.frames == [.stream(id: id, offset: 0, length: 0, fin: true)])
        client.lose(packet)
        try exchange(&client, &server)
        #expect(server.read(id) == StreamChunk(bytes: [], offset: 0, isFinished: true))
        #expect(client.allEvents() == [.sendCompleted(id)])
        #expect(client.openSendCount == 0 && server.openReceiveCount == 0)
    }

    @Test func theEndAloneIsSentAgain() throws {
        var (client, server) = makePair()
        let id = try client.open(bidirectional: false)
        try client.write(id, [7], fin: false)
        try exchange(&client, &server)
        try client.write(id, [], fin: true)
        let end = try unwrap(client.packet())
        #expect(end.frames == [.stream(id: id, offset: 1, length: 0, fin: true)])
        #expect(!client.wantsToSend)
        client.lose(end)
        let again = try unwrap(client.packet())
        #expect(again.bytes == end.bytes)
        // Late news of the first copy: it had arrived.
        client.acknowledge(end)
        #expect(client.allEvents() == [.sendCompleted(id)])
        client.lose(again)
        #expect(!client.wantsToSend && client.openSendCount == 0)
    }

    /// The first copy was late, not lost: the loss of the second changes nothing.
    @Test func acknowledgedOctetsAreNotSentAgain() throws {
        var (client, _) = makePair()
        let id = try client.open(bidirectional: false)
        try client.write(id, content(of: id, 0..<300), fin: true)
        let sent = client.packets(200)
        #expect(sent.count == 2)
        for packet in sent {
            var client = client
            client.lose(packet)
            let second = try unwrap(client.packet(200))
            client.acknowledge(packet)
            client.lose(second)
            #expect(!client.wantsToSend && client.openSendCount == 1)
            client.acknowledge(packet.frames == sent[0].frames ? sent[1] : sent[0])
            #expect(client.allEvents() == [.sendCompleted(id)])
        }
    }

    @Test func onlyFramesThatFillThePacketLackALength() throws {
        var (client, _) = makePair()
        let id = try client.open(bidirectional: false)
        try client.write(id, content(of: id, 0..<1500), fin: true)
        let first = try unwrap(client.packet(1000))
        #expect(first.bytes.count == 1000 && first.bytes[0] == 0x08)
        #expect(first.frames == [.stream(id: id, offset: 0, length: 998, fin: false)])
        let second = try unwrap(client.packet(1000))
        #expect(second.bytes[0] == 0x0f && second.bytes.count < 1000)
        #expect(second.frames == [.stream(id: id, offset: 998, length: 502, fin: true)])
    }

    /// Every payload size around those where the length field grows, in packets of every size around it.
    @Test func framesOfEverySizeFit() throws {
        for size in [0, 1, 31, 32, 33, 62, 63, 64, 65, 66, 127, 200] {
            for capacity in 36..<140 {
                var (client, server) = makePair()
                let id = try client.open(bidirectional: false)
                try client.write(id, content(of: id, 0..<size), fin: true)
                try client.write(client.open(bidirectional: false), [5], fin: true)
                while let packet = client.packet(capacity) { try server.receive(packet.bytes) }
                #expect(!client.wantsToSend)
                #expect(server.read(id)?.bytes == content(of: id, 0..<size))
                #expect(server.read(StreamID(6))?.bytes == [5])
            }
        }
    }

    @Test func noFrameWhereThereIsNoRoom() throws {
        var (client, _) = makePair()
        let id = try client.open(bidirectional: false)
        try client.write(id, content(of: id, 0..<500), fin: true)
        #expect(client.packet(20) == nil, "a fragment of 18 octets is not worth a frame")
        #expect(client.wantsToSend)
        #expect(client.packet(600)?.frames.count == 1)
    }

    @Test func streamsGoOutOneAfterTheOther() throws {
        var (client, _) = makePair()
        let ids = try (0..<3).map { _ in try client.open(bidirectional: false) }
        for id in ids.reversed() { try client.write(id, content(of: id, 0..<700), fin: true) }
        var order: [StreamID] = []
        for packet in client.packets(500) {
            for case .stream(let id, _, _, _) in packet.frames where order.last != id { order.append(id) }
        }
        #expect(order == ids.reversed())
    }

    @Test func lostOctetsGoAheadOfFreshOnes() throws {
        var (client, _) = makePair()
        let first = try client.open(bidirectional: false)
        let second = try client.open(bidirectional: false)
        try client.write(first, content(of: first, 0..<300), fin: true)
        let lost = try unwrap(client.packet(200))
        try client.write(second, [1], fin: true)
        client.lose(lost)
        let next = try unwrap(client.packet(200))
        #expect(next.frames[0] == lost.frames[0])
    }

    @Test func resetEndsAStreamForBoth() throws {
        var (client, server) = makePair()
        let id = try client.open(bidirectional: false)
        try client.write(id, content(of: id, 0..<2000), fin: false)
        let packet = try unwrap(client.packet(1000))
        try server.receive(packet.bytes)
        client.reset(id, code: 77)
        #expect(errorOf { try client.write(id, [1], fin: false) } == .reset)
        client.lose(packet)
        let reset = try unwrap(client.packet())
        #expect(reset.frames == [.resetStream(id)])
        client.lose(reset)
        try exchange(&client, &server)
        #expect(server.allEvents() == [.readable(id), .reset(id, code: 77)])
        #expect(server.read(id) == nil)
        #expect(server.openReceiveCount == 0 && client.openSendCount == 0)
        #expect(client.heldOctets == 0)
        #expect(server.dataReceived == client.dataSent && server.dataConsumed == server.dataReceived)
    }

    /// The reset charged the whole stream, so that what was overtaken by it breaks no limit.
    @Test func dataBehindAResetIsIgnored() throws {
        for isShared in [false, true] {
            var (client, _) = makePair(client: .small(data: 100, stream: 100, streams: 4), shared: isShared)
            try client.resetReceived(shared(0), code: 1, finalSize: 40)
            #expect(client.maxData == 100)
            // Others use up what is left, twice over on the shared space.
            let filling = isShared ? 80 : 30
            for id in [shared(1), shared(2)] { try client.receive(id, 0, content(of: id, 0..<filling)) }
            try client.resetReceived(shared(0), code: 1, finalSize: 40)
            try client.receive(shared(0), 0, content(of: shared(0), 0..<40), fin: true)
            try client.receive(shared(0), 20, content(of: shared(0), 20..<40), isShared ? .flow : .unicast)
            #expect(client.dataReceived == UInt64(40 + 2 * filling) && client.dataConsumed == 40)
            #expect(client.bufferedOctets == 2 * filling && client.statistics.framesRefused == 0)
            #expect(client.allEvents().filter { $0 == .reset(shared(0), code: 1) }.count == 1)
        }
    }

    @Test func aResetAfterEverythingChangesNothing() throws {
        var (_, server) = makePair()
        let id = StreamID(2)
        try server.receive(id, 0, [1, 2], fin: true)
        try server.resetReceived(id, code: 1, finalSize: 2)
        #expect(server.allEvents() == [.readable(id)])
        #expect(server.read(id)?.bytes == [1, 2])
    }

    /// RFC 9000 section 3.3: after everything, or its reset, has arrived, nothing of a stream is sent.
    @Test(arguments: [false, true]) func aStreamThatIsOverIsSilent(isReset: Bool) throws {
        var (client, server) = makePair()
        let id = try client.open(bidirectional: false)
        try client.write(id, [1, 2], fin: !isReset)
        if isReset {
            _ = client.packets()
            client.reset(id, code: 1)
        }
        try exchange(&client, &server)
        client.reset(id, code: 2)
        try client.maxStreamDataReceived(id, 1 << 20)
        try client.stopSendingReceived(id, code: 3)
        let last = client.packet()
        #expect(last == nil && client.openSendCount == 0)
    }

    /// RFC 9000 section 4.4: a stream of which one direction was reset keeps the limits of the other.
    @Test func theOtherDirectionKeepsItsLimits() throws {
        var (client, server) = makePair(client: .small(data: 1000, stream: 10, streams: 4))
        let id = try client.open(bidirectional: true)
        try client.write(id, [1], fin: false)
        try exchange(&client, &server)
        try server.write(id, [UInt8](repeating: 2, count: 25), fin: false)
        client.reset(id, code: 9)
        try exchange(&client, &server)
        #expect(client.read(id)?.bytes.count == 10)
        try exchange(&client, &server)
        #expect(client.read(id)?.bytes.count == 10, "the limit was raised by what was read, and no more was sent")
        #expect(errorCode { try client.receive(id, 30, [1, 2]) } == .flowControlError)
    }

    @Test func stopSendingIsAnsweredWithAReset() throws {
        var (client, server) = makePair()
        let id = try client.open(bidirectional: false)
        try client.write(id, content(of: id, 0..<300), fin: false)
        try exchange(&client, &server)
        server.stopSending(id, code: 5)
        #expect(server.read(id) == nil)
        let stop = try unwrap(server.packet())
        #expect(stop.frames == [.stopSending(id)])
        server.lose(stop)
        try exchange(&client, &server)
        #expect(client.allEvents() == [.stopSending(id, code: 5)])
        #expect(server.allEvents() == [.readable(id), .reset(id, code: 5)])
        #expect(client.openSendCount == 0 && server.openReceiveCount == 0)
        #expect(server.dataConsumed == 300)
    }

    /// What comes on a stopped stream still counts, is thrown away, and its end ends it.
    @Test func aStoppedStreamMayEndByItself() throws {
        var (_, server) = makePair(server: .small(data: 1000, stream: 1000, streams: 1))
        let id = StreamID(2)
        try server.receive(id, 0, [1])
        server.stopSending(id, code: 0)
        try server.receive(id, 2, content(of: id, 2..<600), fin: true)
        #expect(server.openReceiveCount == 1)
        try server.receive(id, 1, [1])
        #expect(server.openReceiveCount == 0 && server.dataConsumed == 600 && server.maxData == 1600)
        #expect(server.maxStreams.unidirectional == 2)
        #expect(server.packet()?.frames.contains(.stopSending(id)) == false)
    }

    /// RFC 9000 section 3.5: a STOP_SENDING that waits to be sent, first or again, is of no use when the stream's end is known,
    /// which its last octets are still missing of.
    @Test(arguments: [false, true]) func aStreamWhoseEndIsKnownIsNotStopped(isAgain: Bool) throws {
        var (_, server) = makePair(server: .small(data: 10_000, stream: 1000, streams: 3))
        for id in [StreamID(2), StreamID(6)] {
            try server.receive(id, 0, [1])
            server.stopSending(id, code: 0)
            if isAgain {
                let stop = try unwrap(server.packet())
                #expect(stop.frames.contains(.stopSending(id)))
                server.lose(stop)
            }
        }
        try server.receive(StreamID(2), 500, [1, 2, 3], fin: true)
        try server.resetReceived(StreamID(6), code: 1, finalSize: 700)
        let sent = server.packets().flatMap(\.frames)
        for id in [StreamID(2), StreamID(6)] { #expect(!sent.contains(.stopSending(id))) }
    }

    @Test func stoppingWhatIsCompleteForgetsIt() throws {
        var (_, server) = makePair()
        try server.receive(StreamID(2), 0, [1, 2, 3], fin: true)
        server.stopSending(StreamID(2), code: 0)
        #expect(server.openReceiveCount == 0 && server.dataConsumed == 3 && !server.wantsToSend)
    }

    @Test func writeSaysWhyNot() throws {
        var (client, server) = makePair()
        let id = try client.open(bidirectional: false)
        #expect(errorOf { try client.write(StreamID(6), [1], fin: false) } == .unknownStream)
        #expect(errorOf { try server.write(id, [1], fin: false) } == .unknownStream)
        try client.write(id, [1], fin: true)
        #expect(errorOf { try client.write(id, [1], fin: false) } == .alreadyFinished)
        let other = try client.open(bidirectional: false)
        try client.write(other, [UInt8](repeating: 1, count: StreamBounds.heldOctets), fin: false)
        #expect(errorOf { try client.write(other, [1], fin: false) } == .full)
        client.reset(other, code: 0)
        #expect(client.allEvents() == [.writable])
        #expect(client.heldOctets == 1)
    }

    /// A peer that opens and resets streams waits until the application has seen it.
    @Test func resetsDoNotOpenNewStreamsByThemselves() throws {
        var (_, server) = makePair(server: .small(data: 100, stream: 100, streams: 4))
        for index in 0..<4 as Range<UInt64> {
            try server.resetReceived(StreamID(index << 2 | 2), code: 0, finalSize: 0)
        }
        #expect(server.maxStreams.unidirectional == 4)
        #expect(errorCode { try server.resetReceived(StreamID(18), code: 0, finalSize: 0) } == .streamLimitError)
        #expect(server.allEvents().count == 4)
        #expect(server.maxStreams.unidirectional == 8)
    }

    private func errorOf(_ body: () throws -> Void) -> StreamError? {
        do {
            try body()
            return nil
        } catch {
            return error as? StreamError
        }
    }
}
