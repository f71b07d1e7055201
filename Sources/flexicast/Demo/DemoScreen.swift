import FoundationEssentials
import Glibc
import System

/// Shows the demo: a table that is drawn over itself on a terminal, plain lines anywhere else.
struct DemoScreen {
    private let isTerminal: Bool
    private let start = ContinuousClock.now
    /// Lines of the last drawing, to be drawn over.
    private var drawnLines = 0
    /// What happened last, newest at the end; shown under the table.
    private var recent: [String] = []

    init() {
        isTerminal = isatty(STDOUT_FILENO) == 1 && ProcessInfo.processInfo.environment["TERM"] ?? "dumb" != "dumb"
    }

    /// `00:12` since the demo began.
    private var clock: String {
        let seconds = (ContinuousClock.now - start).components.seconds
        let pad = { (number: Int64) in number < 10 ? "0\(number)" : "\(number)" }
        return "\(pad(seconds / 60)):\(pad(seconds % 60))"
    }

    /// Something worth a line of its own.
    mutating func say(_ text: String) {
        let line = "\(clock)  \(text)"
        if isTerminal {
            recent = (recent + [line]).suffix(6)
        } else {
            write(line + "\n")
        }
    }

    /// The view of this moment; `progress` is 0 to 1, `page` is where more is to be seen, empty for nowhere.
    mutating func draw(_ board: Scoreboard, title: String, page: String, progress: Double) {
        guard isTerminal else { return }
        let filled = Int(40 * min(max(progress, 0), 1))
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: 40 - filled)
        let size = OpenFile.standardOutput.terminalSize ?? (lines: 24, columns: 80)
        let lines = board.view(
            heading: "\(clock)  [\(bar)]  \(title)", note: page.isEmpty ? "" : "       \(page)", recent: recent,
            lines: size.lines - 1, columns: size.columns)
        // Up over the last drawing; each line is cleared to its end and so is what remains below.
        var text = drawnLines > 0 ? "\u{1b}[\(drawnLines)A" : "\u{1b}[?25l"
        for line in lines { text += "\r" + line + "\u{1b}[K\n" }
        write(text + "\u{1b}[J")
        drawnLines = lines.count
    }

    /// Leaves the last drawing where it is and gives the cursor back.
    mutating func finish() {
        if drawnLines > 0 { write("\u{1b}[?25h\n") }
        drawnLines = 0
    }

    func print(_ lines: [String]) { write(lines.joined(separator: "\n") + "\n") }

    private func write(_ text: String) {
        try? OpenFile.standardOutput.write(Array(text.utf8))
    }
}
