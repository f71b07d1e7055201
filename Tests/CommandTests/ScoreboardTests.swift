import Foundation
import System
import Testing

@testable import flexicast

@Suite struct ScoreboardTests {
    private func line(_ json: String) throws -> ChildLine {
        try ChildLine(json: json)
    }

    @Test func itemsAreCountedOnceAndByTheirPath() throws {
        var receiver = ReceiverScore(name: "flow-1", mode: .flow)
        for json in [
            #"{"event":"connected","address":"10.77.0.1:4433"}"#,
            #"{"event":"listening","group":"239.77.0.1:4477"}"#,
            #"{"event":"item","id":"a","sha256":"1","bytes":5,"via":"flow"}"#,
            #"{"event":"item","id":"b","sha256":"2","bytes":5,"via":"mixed"}"#,
            #"{"event":"fallback","reason":"silence"}"#,
            #"{"event":"item","id":"c","sha256":"3","bytes":5,"via":"unicast"}"#,
            #"{"event":"item","id":"c","sha256":"3","bytes":5,"via":"unicast"}"#,
            #"{"event":"item","id":"a","sha256":"9","bytes":5,"via":"unicast"}"#,
            #"{"event":"return"}"#,
        ] { receiver.apply(try line(json)) }
        #expect(receiver.items == 4, "an edited item is a new version")
        #expect(receiver.duplicates == 1)
        #expect(receiver.viaFlow == 1)
        #expect(receiver.viaMixed == 1)
        #expect(receiver.viaUnicast == 2)
        #expect(receiver.fallbacks == 1)
        #expect(receiver.returns == 1)
        #expect(receiver.state == .listening)
    }

    @Test func savingComparesWithTheItemsToEveryReceiver() throws {
        var board = Scoreboard(receivers: [
            ReceiverScore(name: "flow-1", mode: .flow), ReceiverScore(name: "unicast-1", mode: .unicast),
        ])
        board.source.apply(try line(#"{"event":"item","id":"a","sha256":"1","bytes":1000}"#))
        #expect(!board.everyoneHasEverything)
        #expect(board.behind(board.receivers[0]) == 1)
        board.source.apply(
            try line(
                #"{"event":"summary","bytes_flow":600,"bytes_unicast":200,"bytes_repair":100,"bytes_control":100}"#))
        for index in board.receivers.indices {
            board.receivers[index].apply(try line(#"{"event":"item","id":"a","sha256":"1","via":"flow"}"#))
        }
        #expect(board.everyoneHasEverything)
        #expect(board.unicastEquivalent == 2000)
        #expect(board.saving == 2)
        #expect(board.isPerfect)
        board.receivers[1].duplicates = 1
        #expect(!board.isPerfect)
    }

    /// Whole feeds count in place of the items in them; the multicast part is compared with what unicast really cost.
    @Test func multicastPart() throws {
        var board = Scoreboard(
            receivers: (1...5).map { ReceiverScore(name: "amt-\($0)", mode: .amt) }
                + (1...2).map { ReceiverScore(name: "unicast-\($0)", mode: .unicast) })
        #expect(board.multicastSaving == nil)
        for _ in 0..<2 {
            board.source.apply(try line(#"{"event":"feed","bytes":1000,"sha256":"1"}"#))
            board.source.apply(try line(#"{"event":"item","id":"a","sha256":"1","bytes":300}"#))
        }
        #expect(board.source.bytesOfDocuments == 2000 && board.unicastEquivalent == 14_000)
        board.source.apply(
            try line(
                #"{"event":"summary","bytes_flow":2000,"bytes_unicast":4200,"bytes_repair":100,"bytes_control":100}"#))
        board.receivers[5].apply(try line(#"{"event":"summary","items":2,"bytes_unicast":2000}"#))
        board.receivers[6].apply(try line(#"{"event":"summary","items":2,"bytes_unicast":2200}"#))
        #expect(board.unicastCost == 2100)
        #expect(board.multicastSaving == 5)
        board.receivers.removeLast(2)
        #expect(board.multicastSaving == nil)
    }

    @Test func filesAreComparedByNameAndContent() {
        let expected = ["a.xml": "1", "b.xml": "2", "c.xml": "3"]
        let check = { (files: [String: String]) in
            let result = compare(files: files, with: expected)
            return [result.missing, result.corrupt]
        }
        #expect(check(expected) == [0, 0])
        #expect(check(["a.xml": "1", "b.xml": "9", "d.xml": "4"]) == [1, 2])
        #expect(check([:]) == [3, 0])
    }

    @Test func reportHasTheNamesThatScriptsRead() throws {
        var receiver = ReceiverScore(name: "flow-1", mode: .flow)
        receiver.fallbacks = 1
        let json = try DemoReport(outcome(Scoreboard(receivers: [receiver]))).json()
        let object = try #require(try JSONSerialization.jsonObject(with: json) as? [String: Any])
        #expect(
            Set(object.keys) == [
                "items", "interrupted", "receivers", "source", "unicast_equivalent_bytes", "saving", "series",
                "parameters", "machine",
            ])
        let receivers = try #require(object["receivers"] as? [[String: Any]])
        #expect(
            Set(receivers[0].keys) == [
                "name", "mode", "items", "missing", "duplicates", "corrupt", "fallbacks", "returns",
            ])
        let source = try #require(object["source"] as? [String: Any])
        #expect(Set(source.keys) == ["bytes_flow", "bytes_repair", "bytes_unicast", "bytes_control"])
    }

    /// Whatever happens to however many, the view is whole on a terminal, and who is in trouble is on it.
    @Test(arguments: [(1, 24), (9, 24), (30, 24), (120, 24), (120, 50), (9, 8)])
    func theViewFits(receivers: Int, lines: Int) {
        var board = Scoreboard(
            receivers: (0..<receivers).map { ReceiverScore(name: "unicast-\($0)", mode: .unicast, lossPercent: 2.25) })
        board.receivers[receivers - 1].isCut = true
        board.source.bytesFlow = 123_456_789_012
        let recent = (0..<6).map { "00:1\($0)  " + String(repeating: "x", count: 100) }
        let heading = "00:12  [\(String(repeating: "#", count: 40))]  waiting for the last items"
        let view = board.view(heading: heading, recent: recent, lines: lines - 1)
        #expect(view.count < lines)
        // What others have said may be longer, and is cut off.
        #expect(view.allSatisfy { $0.count <= 80 || recent.contains($0) })
        guard lines >= 24 else { return }
        #expect(view[0] == heading)
        #expect(view.contains { $0.contains("unicast-\(receivers - 1) ") && $0.contains("multicast cut") })
        #expect(view.contains { $0.hasPrefix("source sent") })
        #expect(view.last!.hasPrefix("00:15"))
        if receivers > 17, lines == 24 { #expect(view.contains { $0.hasPrefix("and \(receivers - 13) more: ") }) }
    }

    /// The last table has no line that a terminal of eighty columns would break.
    @Test func theFinalTableFits() {
        var board = Scoreboard(
            receivers: (0..<5).map { ReceiverScore(name: "amt-\($0)", mode: .amt) }
                + (0..<4).map { ReceiverScore(name: "unicast-\($0)", mode: .unicast, bytesUnicast: 1 << 30) })
        board.source.bytesFlow = 123_456_789
        board.source.bytesOfFeeds = 123_456_789
        board.packetsRouted = 12_345_678
        #expect(board.finalTable.allSatisfy { $0.count <= 80 })
    }

    @Test func tablesAlignNumbersRight() {
        #expect(
            formatTable(["name", "items"], [["a", "5"], ["longer", "12345678"]]) == [
                "name       items", "a              5", "longer  12345678",
            ])
        #expect(grouped(1_234_567) == "1 234 567")
        #expect(grouped(12) == "12")
    }

    @Test func linesAreCutWhereverTheBytesAre() {
        var splitter = LineSplitter()
        let lines = ["a\nb", "c\n\nd", "\n"].map { splitter.lines(adding: $0.utf8) }
        #expect(lines == [["a"], ["bc", ""], ["d"]])
    }
}

/// A run that came to that.
func outcome(_ board: Scoreboard, _ samples: [FigureSample] = []) -> DemoOutcome {
    DemoOutcome(
        settings: DemoSettings(), board: board, samples: samples, problems: [], isInterrupted: false,
        network: "loopback")
}
