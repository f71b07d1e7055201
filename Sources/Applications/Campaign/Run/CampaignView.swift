import FoundationEssentials
import Glibc
import System

/// Shows a run: a view of 80 columns that is drawn over itself on a terminal, plain lines anywhere else.
struct CampaignView {
    static let width = 80
    /// Lines of the view, with which it fits 24 rows.
    static let height = 22
    private let isTerminal: Bool
    private let start = ContinuousClock.now
    private var drawnLines = 0
    private var recent: [String] = []

    init() {
        isTerminal = isatty(STDOUT_FILENO) == 1 && ProcessInfo.processInfo.environment["TERM"] ?? "dumb" != "dumb"
    }

    private var clock: String {
        let seconds = (ContinuousClock.now - start).components.seconds
        let pad = { (number: Int64) in number < 10 ? "0\(number)" : "\(number)" }
        return "\(pad(seconds / 60)):\(pad(seconds % 60))"
    }

    /// Something worth a line of its own.
    mutating func say(_ text: String) {
        let line = "\(clock)  \(Self.printable(text))"
        if isTerminal { recent = (recent + [line]).suffix(5) } else { write(line + "\n") }
    }

    /// The view of this moment, above what was said last.
    mutating func draw(_ lines: () -> [String]) {
        guard isTerminal else { return }
        let room = Self.height - recent.count - 1
        var shown = lines()
        if shown.count > room { shown = shown.prefix(room - 1) + ["  … and \(shown.count - room + 1) more"] }
        var text = drawnLines > 0 ? "\u{1b}[\(drawnLines)A" : "\u{1b}[?25l"
        shown += [""] + recent
        for line in shown { text += "\r" + Self.printable(line).prefix(Self.width - 1) + "\u{1b}[K\n" }
        write(text + "\u{1b}[J")
        drawnLines = shown.count
    }

    /// Leaves the last drawing where it is and gives the cursor back.
    mutating func finish() {
        if drawnLines > 0 { write("\u{1b}[?25h\n") }
        drawnLines = 0
    }

    /// What a host says must not drive the terminal.
    static func printable(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7f ? " " : $0 }))
    }

    private func write(_ text: String) { try? OpenFile.standardOutput.write(Array(text.utf8)) }
}
