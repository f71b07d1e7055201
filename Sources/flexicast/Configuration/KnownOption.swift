import ArgumentParser
import FoundationEssentials

/// An option of a command as the parser itself describes it.
struct KnownOption: Equatable, Sendable {
    enum Kind: String, Decodable, Sendable {
        case positional
        case option
        case flag
    }

    var kind: Kind
    /// Long names without hyphens before them, the preferred one first; of an argument without a name, what stands for it in the usage.
    var names: [String]
    var takesSeveral: Bool

    var key: String { names[0] }

    /// The commands that files and variables may configure.
    static let commands: [(name: String, type: any ParsableCommand.Type)] =
        [SourceCommand.self, PollCommand.self, ReceiveCommand.self, RelayCommand.self, GatewayCommand.self]
        .map { ($0.configuration.commandName ?? "", $0) }

    static func command(_ name: String) -> (any ParsableCommand.Type)? { commands.first { $0.name == name }?.type }

    /// What files and variables can say of a command. `config` is only for variables and the command line.
    static func all(of command: any ParsableCommand.Type) throws -> [KnownOption] {
        let tool = try JSONDecoder().decode(Tool.self, from: Data(command._dumpHelp().utf8))
        return (tool.command.arguments ?? []).compactMap { argument in
            let long = (argument.names ?? []).filter { $0.kind == "long" }.map(\.name)
            let preferred = argument.preferredName?.name
            let names =
                argument.kind == .positional
                ? [argument.valueName].compactMap(\.self)
                : long.filter { $0 == preferred } + long.filter { $0 != preferred }
            guard let first = names.first, !["help", "version"].contains(first) else { return nil }
            return KnownOption(kind: argument.kind, names: names, takesSeveral: argument.isRepeating)
        }
    }

    private struct Tool: Decodable {
        var command: Command

        struct Command: Decodable {
            var arguments: [Argument]?
        }

        struct Argument: Decodable {
            var kind: Kind
            var isRepeating: Bool
            var names: [Name]?
            var preferredName: Name?
            var valueName: String?
        }

        struct Name: Decodable {
            var kind: String
            var name: String
        }
    }
}

extension [KnownOption] {
    func named(_ name: some StringProtocol) -> KnownOption? { first { $0.names.contains(String(name)) } }

    /// Of those in a command line which are there, by their keys, and what it says of each.
    func values(in arguments: some Sequence<String>) -> [String: [String]] {
        var found: [String: [String]] = [:]
        var waiting: String?
        for argument in arguments {
            if let key = waiting {
                found[key, default: []].append(argument)
                waiting = nil
            } else if argument.hasPrefix("--"), argument != "--" {
                let parts = argument.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                guard let name = parts.first, let option = named(name) else { continue }
                found[option.key, default: []] += parts.dropFirst().map(String.init)
                if option.kind == .option, parts.count == 1 { waiting = option.key }
            } else if let positional = first(where: { $0.kind == .positional }) {
                found[positional.key, default: []].append(argument)
            }
        }
        return found
    }

    /// The name that was probably meant.
    func nearest(to key: String) -> String? {
        let key = key.lowercased().replacing("_", with: "-")
        return flatMap(\.names).map { ($0, Self.distance([UInt8]($0.utf8), [UInt8](key.utf8))) }
            .filter { $0.1 <= 2 }.min { $0.1 < $1.1 }?.0
    }

    /// Letters that have to be put in, left out or changed (Levenshtein).
    private static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
        var row = [Int](0...b.count)
        for (i, x) in a.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, y) in b.enumerated() {
                (diagonal, row[j + 1]) = (
                    row[j + 1], Swift.min(row[j + 1] + 1, row[j] + 1, diagonal + (x == y ? 0 : 1))
                )
            }
        }
        return row[b.count]
    }
}
