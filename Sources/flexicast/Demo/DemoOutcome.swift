/// What a run of the demo came to.
struct DemoOutcome {
    let settings: DemoSettings
    let board: Scoreboard
    let samples: [FigureSample]
    let problems: [String]
    /// It was ended early, and what had come by then is all there.
    let isInterrupted: Bool
    /// `namespaces` or `loopback`.
    let network: String
    /// The outcome for those on the flow when they were on connections.
    private(set) var compared: [DemoOutcome] = []

    init(
        settings: DemoSettings, board: Scoreboard, samples: [FigureSample], problems: [String], isInterrupted: Bool,
        network: String
    ) {
        self.settings = settings
        self.board = board
        self.samples = samples
        self.problems = problems
        self.isInterrupted = isInterrupted
        self.network = network
    }

    /// Adds what the same receivers on connections came to.
    mutating func compare(with other: DemoOutcome) { compared = [other] }

    private var allProblems: [String] { problems + compared.flatMap { $0.problems.map { "to compare: \($0)" } } }

    var isGood: Bool { allProblems.isEmpty }

    /// How many times less the flow took, with its repair, than the same receivers took on connections, as far as they
    /// were run so.
    var measuredSaving: Double? {
        guard let other = compared.first?.board.source, board.source.onFlow > 0 else { return nil }
        return Double(other.onConnections) / Double(board.source.onFlow)
    }

    /// The last words.
    var verdict: [String] {
        guard isGood else { return allProblems }
        let what = "every item is everywhere, once, equal to the byte"
        return [isInterrupted ? "interrupted after \(board.source.sent.count) items; \(what)" : what]
    }
}
