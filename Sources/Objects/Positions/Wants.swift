/// Which objects a receiver wants on its own connection. The flow brings everything to everybody.
public enum Wants: Sendable, Equatable {
    /// All of them.
    case everything
    /// Objects whose name starts with one of these, compared octet by octet: 1 to `ObjectLimits.wantedPrefixes`.
    case named([String])

    /// Objects whose name starts with one of these; all of them when there is none.
    public init(prefixes: [String]) { self = prefixes.isEmpty ? .everything : .named(prefixes) }

    /// Whether an object of this name is wanted.
    public func include(_ name: String) -> Bool {
        switch self {
        case .everything: true
        case .named(let prefixes): prefixes.contains { name.utf8.starts(with: $0.utf8) }
        }
    }
}
