import FoundationEssentials
import Glibc
import System

/// Shows what goes on: lines that are drawn over themselves on a terminal, plain lines anywhere else.
package struct TerminalView {
    package let isTerminal: Bool
    private let start = ContinuousClock.now
    /// Lines of the last drawing, to be drawn over.
    private var drawnLines = 0
    /// What was said last, newest at the end.
    private var recent: [String] = []

    private static let recentLines = 6

    package init() {
        isTerminal = isatty(STDOUT_FILENO) == 1 && ProcessInfo.processInfo.environment["TERM"] ?? "dumb" != "dumb"
    }

    /// `00:12` since it began.
    package var clock: String {
        let seconds = (ContinuousClock.now - start).components.seconds
        let pad = { (number: Int64) in number < 10 ? "0\(number)" : "\(number)" }
        return "\(pad(seconds / 60)):\(pad(seconds % 60))"
    }

    /// Something worth a line of its own. On a terminal it is kept for `draw`.
    package mutating func say(_ text: String) {
        let line = "\(clock)  \(Self.printable(text))"
        if isTerminal { recent = (recent + [line]).suffix(Self.recentLines) } else { print([line]) }
    }

    /// Draws this moment over the last one.
    /// - Parameter view: the lines, of what was said last and of how many there is room for; what is too wide is cut off.
    package mutating func draw(_ view: (_ recent: [String], _ room: Int) -> [String]) {
        guard isTerminal else { return }
        let size = OpenFile.standardOutput.terminalSize ?? (lines: 24, columns: 80)
        // The cursor is on the line after the last.
        let lines = view(recent, size.lines - 1).prefix(max(1, size.lines - 1))
        // Up over the last drawing; each line is cleared to its end and so is what remains below.
        var text = drawnLines > 0 ? "\u{1b}[\(drawnLines)A" : "\u{1b}[?25l"
        for line in lines { text += "\r" + Self.printable(line).prefix(size.columns) + "\u{1b}[K\n" }
        write(text + "\u{1b}[J")
        drawnLines = lines.count
    }

    /// Leaves the last drawing where it is and gives the cursor back.
    package mutating func finish() {
        if drawnLines > 0 { write("\u{1b}[?25h\n") }
        drawnLines = 0
    }

    /// Below all that was drawn.
    package func print(_ lines: [String]) { write(lines.joined(separator: "\n") + "\n") }

    /// What others say must not drive the terminal.
    package static func printable(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7f ? " " : $0 }))
    }

    private func write(_ text: String) { try? OpenFile.standardOutput.write(Array(text.utf8)) }
}
