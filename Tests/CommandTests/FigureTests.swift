import Foundation
import FoundationXML
import Operation
import Testing

@testable import flexicast

@Suite("The demo's figure")
struct FigureTests {
    @Test(arguments: [(0.0, 1.0), (4.076, 1.0), (21, 5), (0.3, 0.05), (100, 20), (8, 1)])
    func stepsAreRound(_ maximum: Double, _ step: Double) {
        #expect(abs(Chart.niceStep(maximum, steps: 8) - step) < 1e-9)
    }

    /// A drawing program is handed well-formed XML with all five curves, also when there is next to nothing to draw.
    @Test(arguments: [0, 1, 40])
    func isWellFormed(_ count: Int) throws {
        var board = Scoreboard(
            receivers: [ReceiverScore(name: "a", mode: .amt), ReceiverScore(name: "b", mode: .unicast)])
        let samples = (0..<count).map { index in
            board.source.bytesFlow = index * 1000
            board.source.bytesUnicast = index * 5000
            return FigureSample(board, at: .seconds(index))
        }
        let document = try XMLDocument(data: Data(demoFigure(outcome(board, samples)).svg.utf8))
        let lines = try document.nodes(forXPath: "//*[local-name()='polyline']/@points")
        #expect(lines.count == 5)
        let coordinates = lines[0].stringValue?.split(separator: " ") ?? []
        #expect(coordinates.count == count)
        for pair in coordinates {
            let numbers = pair.split(separator: ",").compactMap { Double($0) }
            #expect(numbers.count == 2 && (0...800).contains(numbers[0]) && (0...500).contains(numbers[1]))
        }
    }

    /// What the same receivers took on connections is what that run's source sent on them, and the ratio is in the figure.
    @Test func saysWhatWasMeasured() {
        var board = Scoreboard(receivers: [ReceiverScore(name: "a", mode: .amt)])
        board.source.bytesFlow = 900
        board.source.bytesRepair = 100
        var other = Scoreboard(receivers: [ReceiverScore(name: "a", mode: .unicast)])
        other.source.bytesUnicast = 4870
        other.source.bytesControl = 1000
        var main = outcome(board, [FigureSample(board, at: .seconds(1))])
        #expect(main.measuredSaving == nil)
        main.compare(with: outcome(other, [FigureSample(other, at: .seconds(1))]))
        #expect(main.measuredSaving == 4.87)
        let svg = demoFigure(main).svg
        #expect(svg.contains("4.87 times less than its 1 receivers on unicast (measured)"))
        #expect(svg.contains("the same 1 on unicast, measured"))
    }
}
