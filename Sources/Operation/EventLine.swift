// What a program tells whoever started it, on standard output: one JSON object per line with `--json`, else one line of
// text. Names and units are a contract; scripts read them. A field may be added, never renamed.

/// One line for a program and one for a person; the person's line is nil where there is nothing worth saying.
package protocol EventLine {
    var json: String { get }
    var text: String? { get }
}

extension EventLine {
    /// The line of an event of that name, for a program.
    package func event(
        _ name: String, _ members: KeyValuePairs<String, any JSONValue> = [:], and more: [(String, any JSONValue)] = []
    ) -> String {
        jsonObject(["event": name], and: members.map { ($0.key, $0.value) } + more)
    }
}
