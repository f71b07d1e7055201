import Testing
import Wire

@testable import QUIC

/// What a peer must not do, each with the error that RFC 9000 names for it.
@Suite struct StreamErrorTests {
    // From the client's side: 0 is its own bidirectional stream, 2 its own unidirectional one, 1 and 3 the server's.
    let limits = StreamLimits.small(data: 1000, stream: 600, streams: 2)

    func table(shared: Bool = false) -> StreamTable { makePair(client: limits, shared: shared).client }

    @Test func dataOnAStreamThatOnlyWeSendOn() throws {
        var table = table()
        let id = try table.open(bidirectional: false)
        #expect(errorCode { try table.receive(id, 0, [1]) } == .streamStateError)
        #expect(errorCode { try table.resetReceived(id, code: 0, finalSize: 0) } == .streamStateError)
        #expect(errorCode { try table.streamDataBlockedReceived(id, 0) } == .streamStateError)
    }

    @Test func framesForAStreamOfOursThatWasNeverOpened() {
        var table = table()
        #expect(errorCode { try table.receive(StreamID(0), 0, [1]) } == .streamStateError)
        #expect(errorCode { try table.stopSendingReceived(StreamID(2), code: 0) } == .streamStateError)
        #expect(errorCode { try table.maxStreamDataReceived(StreamID(0), 9) } == .streamStateError)
    }

    @Test func limitsForAStreamThatOnlyThePeerSendsOn() {
        var table = table()
        #expect(errorCode { try table.maxStreamDataReceived(StreamID(3), 9) } == .streamStateError)
        #expect(errorCode { try table.stopSendingReceived(StreamID(3), code: 0) } == .streamStateError)
    }

    @Test(arguments: [1, 3] as [UInt64]) func tooManyStreams(first: UInt64) {
        var table = table()
        #expect(errorCode { try table.receive(StreamID(first + 4), 0, [1]) } == nil)
        #expect(errorCode { try table.receive(StreamID(first + 8), 0, [1]) } == .streamLimitError)
        #expect(errorCode { try table.resetReceived(StreamID(first + 8), code: 0, finalSize: 0) } == .streamLimitError)
        #expect(errorCode { try table.streamDataBlockedReceived(StreamID(first + 8), 0) } == .streamLimitError)
    }

    @Test func limitsThatCannotBe() throws {
        var table = table()
        for bidirectional in [true, false] {
            #expect(errorCode { try table.maxStreamsReceived(bidirectional: bidirectional, 1 << 60) } == nil)
            #expect(
                errorCode { try table.maxStreamsReceived(bidirectional: bidirectional, 1 << 60 + 1) }
                    == .frameEncodingError)
            #expect(
                errorCode { try table.streamsBlockedReceived(bidirectional: bidirectional, 1 << 60 + 1) }
                    == .frameEncodingError)
        }
        #expect(errorCode { try table.receive(StreamID(3), Varint.max, [1]) } == .frameEncodingError)
    }

    @Test func tooMuchOnOneStream() {
        for offset in [600, 599, 1 << 61] as [UInt64] {
            var table = table()
            let bytes: [UInt8] = [1, 2]
            #expect(errorCode { try table.receive(StreamID(3), offset, bytes) } == .flowControlError)
        }
        var table = table()
        #expect(errorCode { try table.receive(StreamID(3), 598, [1, 2]) } == nil)
        #expect(errorCode { try table.resetReceived(StreamID(7), code: 0, finalSize: 601) } == .flowControlError)
    }

    @Test func tooMuchOnTheConnection() {
        var table = table()
        #expect(errorCode { try table.receive(StreamID(3), 599, [1]) } == nil)
        #expect(errorCode { try table.receive(StreamID(7), 399, [1]) } == nil)
        #expect(errorCode { try table.receive(StreamID(7), 0, [1]) } == nil, "counted by the highest offset")
        var reset = table
        #expect(errorCode { try table.receive(StreamID(7), 400, [1]) } == .flowControlError)
        #expect(errorCode { try reset.resetReceived(StreamID(7), code: 0, finalSize: 401) } == .flowControlError)
    }

    @Test func finalSizeChanges() {
        let id = StreamID(3)
        var table = table()
        #expect(errorCode { try table.receive(id, 10, [1, 2], fin: true) } == nil)
        #expect(errorCode { try table.receive(id, 10, [1, 2], fin: true) } == nil)
        #expect(errorCode { try table.receive(id, 10, [1], fin: true) } == .finalSizeError)
        #expect(errorCode { try table.receive(id, 11, [1, 2], fin: true) } == .finalSizeError)
        #expect(errorCode { try table.receive(id, 11, [1, 2]) } == .finalSizeError)
        #expect(errorCode { try table.resetReceived(id, code: 0, finalSize: 11) } == .finalSizeError)
        #expect(errorCode { try table.resetReceived(id, code: 0, finalSize: 12) } == nil)
        #expect(errorCode { try table.receive(id, 11, [1, 2]) } == .finalSizeError)
        #expect(errorCode { try table.resetReceived(id, code: 0, finalSize: 13) } == .finalSizeError)
    }

    @Test func finalSizeBelowWhatWasReceived() {
        var table = table()
        #expect(errorCode { try table.receive(StreamID(3), 10, [1, 2]) } == nil)
        #expect(errorCode { try table.receive(StreamID(3), 0, [1], fin: true) } == .finalSizeError)
        #expect(errorCode { try table.resetReceived(StreamID(3), code: 0, finalSize: 11) } == .finalSizeError)
    }

    @Test func holesWithoutEnd() throws {
        var table = makePair(client: .small(data: 1 << 30, stream: 1 << 30, streams: 100)).client
        for index in 0..<UInt64(StreamBounds.segmentsPerStream) { try table.receive(StreamID(3), 2 * index + 1, [1]) }
        let next = 2 * UInt64(StreamBounds.segmentsPerStream) + 1
        #expect(errorCode { try table.receive(StreamID(3), next, [1]) } == .internalError)
        // All streams together.
        for stream in 1..<UInt64(StreamBounds.segmentsPerConnection / StreamBounds.segmentsPerStream) {
            for index in 0..<UInt64(StreamBounds.segmentsPerStream) {
                try table.receive(shared(stream), 2 * index + 1, [1])
            }
        }
        #expect(errorCode { try table.receive(shared(99), 1, [1]) } == .internalError)
        #expect(table.segments == StreamBounds.segmentsPerConnection)
        try table.resetReceived(shared(1), code: 0, finalSize: next)
        #expect(errorCode { try table.receive(shared(99), 1, [1]) } == nil, "a reset stream gives its segments back")
    }

    /// A stream that is over stays over, whatever comes late.
    @Test func lateFramesOfFinishedStreamsAreIgnored() throws {
        var (client, server) = makePair()
        let id = try client.open(bidirectional: true)
        let uni = try client.open(bidirectional: false)
        try client.write(id, [1, 2, 3], fin: true)
        try client.write(uni, [4], fin: true)
        let packet = try unwrap(client.packet())
        try server.receive(packet.bytes)
        #expect(server.read(id)?.isFinished == true)
        #expect(server.read(uni)?.isFinished == true)
        try server.write(id, [9], fin: true)
        try exchange(&client, &server)
        #expect(client.read(id)?.bytes == [9])
        client.acknowledge(packet)
        _ = client.allEvents()
        _ = server.allEvents()
        #expect(client.openSendCount == 0 && client.openReceiveCount == 0)
        #expect(server.openSendCount == 0 && server.openReceiveCount == 0)

        try server.receive(packet.bytes)
        try server.resetReceived(id, code: 1, finalSize: 3)
        try server.stopSendingReceived(id, code: 1)
        try server.maxStreamDataReceived(id, 1 << 30)
        try client.maxStreamDataReceived(uni, 1 << 30)
        try client.stopSendingReceived(uni, code: 1)
        try client.receive(id, 0, [9], fin: true)
        #expect(server.allEvents().isEmpty && client.allEvents().isEmpty)
        #expect(server.openReceiveCount == 0 && client.openReceiveCount == 0 && server.openSendCount == 0)
        #expect(server.dataReceived == 4)
    }
}
