/// Writes events to standard output, each whole line at once so that a reader never sees half of one.
public struct EventOutput: Sendable {
    public enum Style: Sendable {
        case json
        case text
        /// Nothing: standard output carries the items themselves.
        case silent
    }

    public let style: Style
    private let writer: OutputWriter

    public init(style: Style) { self.init(style: style, writer: OutputWriter()) }

    init(style: Style, writer: OutputWriter) {
        self.style = style
        self.writer = writer
    }

    /// A reader that has gone away is not our failure: the line is dropped.
    public func report(_ event: some EventLine) {
        let line: String? =
            switch style {
            case .json: event.json
            case .text: event.text
            case .silent: nil
            }
        guard let line else { return }
        writer.write(Array((line + "\n").utf8))
    }

    /// Waits until all lines were taken, for a few seconds at the most.
    public func flush() { writer.flush() }
}
