import FoundationEssentials

/// A time as events and log lines tell it: `2026-11-23T01:38:00.123Z` (RFC 3339).
package func timestamp(_ time: Date = Date()) -> String {
    time.formatted(.iso8601.year().month().day().time(includingFractionalSeconds: true)) + "Z"
}

/// Writes events to standard output, each whole line at once so that a reader never sees half of one.
package struct EventOutput: Sendable {
    package enum Style: Sendable {
        case json
        case text
        /// Nothing: standard output carries the items themselves.
        case silent
    }

    package let style: Style
    private let writer: OutputWriter

    package init(style: Style) { self.init(style: style, writer: OutputWriter()) }

    package init(style: Style, writer: OutputWriter) {
        self.style = style
        self.writer = writer
    }

    /// A reader that has gone away is not our failure: the line is dropped.
    package func report(_ event: some EventLine) {
        let line: String? =
            switch style {
            case .json: "{\"time\":\"\(timestamp())\"," + event.json.dropFirst()
            case .text: event.text
            case .silent: nil
            }
        guard let line else { return }
        writer.write(Array((line + "\n").utf8))
    }

    /// Waits until all lines were taken, for a few seconds at the most.
    package func flush() { writer.flush() }
}
