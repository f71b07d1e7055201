import Foundation
import FoundationXML
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
        let samples = (0..<count).map { index in
            var board = Scoreboard(receivers: [ReceiverScore(name: "a", mode: .amt)])
            board.source.bytesFlow = index * 1000
            board.source.bytesOfItems = index * 5000
            return FigureSample(board, at: .seconds(index))
        }
        let document = try XMLDocument(data: Data(demoFigure(samples).svg.utf8))
        let lines = try document.nodes(forXPath: "//*[local-name()='polyline']/@points")
        #expect(lines.count == 5)
        let coordinates = lines[0].stringValue?.split(separator: " ") ?? []
        #expect(coordinates.count == count)
        for pair in coordinates {
            let numbers = pair.split(separator: ",").compactMap { Double($0) }
            #expect(numbers.count == 2 && (0...800).contains(numbers[0]) && (0...500).contains(numbers[1]))
        }
    }
}
