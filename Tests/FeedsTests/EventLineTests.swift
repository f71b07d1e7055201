import Feeds
import Testing
import Transport

@Suite struct EventLineTests {
    @Test func itemLineKeepsTheContractsNamesAndOrder() {
        let event = ReceiverEvent.item(
            id: "urn:uuid:1", title: "a \"b\" \\ c\n\u{1}é", updated: "2026-11-01T00:00:00Z", bytes: 12, sha256: "ab",
            sequence: 5, via: .mixed, latency: .microseconds(12_034))
        #expect(
            event.json == #"""
                {"event":"item","id":"urn:uuid:1","title":"a \"b\" \\ c\n\u0001é","updated":"2026-11-01T00:00:00Z",\#
                "bytes":12,"sha256":"ab","sequence":5,"via":"mixed","latency_ms":12.034}
                """#)
    }

    @Test func sourceCountsKeepTheContractsNames() {
        var counts = SourceCounts()
        counts.bytesFlow = 1
        counts.bytesUnicast = 2
        counts.bytesRepair = 3
        counts.bytesControl = 4
        counts.receivers = 5
        counts.members = 6
        counts.items = 7
        counts.packetsRejected = 8
        counts.receiversLetGo = 9
        counts.bytesReplicated = 10
        counts.replicated = 11
        counts.partsGone = 12
        counts.connectionsRefused = 13
        counts.receiversWaiting = 14
        counts.partsSentAgain = 15
        counts.controlErrors = 16
        counts.controlWaits = 17
        #expect(
            SourceEvent.summary(counts).json == #"""
                {"event":"summary","bytes_flow":1,"bytes_unicast":2,"bytes_repair":3,"bytes_control":4,\#
                "receivers":5,"members":6,"items":7,"packets_rejected":8,"receivers_let_go":9,\#
                "bytes_replicated":10,"replicated":11,"parts_gone":12,"connections_refused":13,\#
                "receivers_waiting":14,"parts_sent_again":15,"control_errors":16,"control_waits":17}
                """#)
        counts.zeroCopy = "off: it takes io_uring"
        #expect(
            SourceEvent.interval(counts).json.hasSuffix(
                #","control_waits":17,"zero_copy":"off: it takes io_uring"}"#))
    }

    @Test func latencyIsMillisecondsWithMicrosecondPrecision() {
        #expect(ReceiverEvent.fallback(.silence).json == #"{"event":"fallback","reason":"silence"}"#)
        for (duration, text) in [(Duration.zero, "0.000"), (.milliseconds(5), "5.000"), (.nanoseconds(1_500), "0.001")]
        {
            let event = ReceiverEvent.item(
                id: "", title: "", updated: "", bytes: 0, sha256: "", sequence: 0, via: .flow, latency: duration)
            #expect(event.json.hasSuffix("\"latency_ms\":\(text)}"))
        }
    }
}
