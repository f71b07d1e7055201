import Foundation
import TestSupport
import Testing

@testable import flexicast

/// The manual and the program name the same options: each table of options in docs/ against what ArgumentParser knows.
@Suite struct ManualTests {
    /// A command, and the headings under which its options are: its own first.
    struct Section: CustomTestStringConvertible, Sendable {
        var command: [String]
        var file: String
        var headings: [String]

        var testDescription: String { command.joined(separator: " ") }

        init(_ command: String..., file: String = "operating.md", shared: String? = nil) {
            self.command = command
            self.file = file
            headings = ["`flexicast \(command.joined(separator: " "))`"] + (shared.map { [$0] } ?? [])
        }
    }

    private static let common = "Options of all commands"
    private static let commonOfPerf = "Options of all `perf` modes"
    static let sections =
        ["source", "poll", "receive", "relay", "gateway", "router"].map { Section($0, shared: common) }
        + [
            Section("demo"), Section("check-config"), Section("feed", "check"),
            Section("simulate", file: "simulation.md"),
        ]
        + ["send", "receive", "flow", "fanout", "relay", "serve", "crypto", "handshake"].map {
            Section("perf", $0, file: "measuring.md", shared: commonOfPerf)
        }
        + ["run", "report", "compare", "agent"].map { Section("campaign", $0, file: "campaign.md") }

    @Test(arguments: sections)
    func everyOptionIsInTheManualAndNoOther(section: Section) throws {
        let known = try options(of: section.command)
        let text = try String(contentsOf: Machine.root.appending(path: "docs/\(section.file)"), encoding: .utf8)
        var named: Set<String> = []
        for heading in section.headings {
            let table = try #require(Self.optionsInTables(under: heading, of: text), "no heading \(heading)")
            #expect(!table.isEmpty || known.isEmpty, "no options under \(heading)")
            named.formUnion(table)
        }
        #expect(known.subtracting(named).sorted() == [], "not in docs/\(section.file)")
        #expect(named.subtracting(known).sorted() == [], "in docs/\(section.file), but not options")
    }

    /// No command is without a section.
    @Test func everyCommandIsInTheManual() throws {
        let all = try Self.commands().map { $0.path.joined(separator: " ") }
        #expect(all.sorted() == Self.sections.map(\.testDescription).sorted())
    }

    /// Prose and examples name options that some command has, or one of these of other programs.
    @Test(arguments: [
        "README.md", "SECURITY.md", "docs/operating.md", "docs/measuring.md", "docs/protocol.md", "docs/campaign.md",
        "docs/simulation.md", "docs/scaling.md",
    ])
    func proseNamesOptionsThatThereAre(file: String) throws {
        let others: Set = ["--orphans", "--filter", "--help", "--version"]
        let known = try Self.commands().reduce(into: others) { $0.formUnion($1.options) }
        let text = try String(contentsOf: Machine.root.appending(path: file), encoding: .utf8)
        let named = Self.optionNames(in: text)
        #expect(named.subtracting(known).sorted() == [])
    }

    /// Links within the documents lead to files and headings that there are.
    @Test(arguments: [
        "README.md", "SECURITY.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/campaign.md", "docs/containers.md",
        "docs/deploying.md",
        "docs/measuring.md", "docs/nightly.md", "docs/objects.md", "docs/operating.md", "docs/protocol.md",
        "docs/scaling.md",
    ])
    func linksLeadSomewhere(file: String) throws {
        let place = Machine.root.appending(path: file)
        for link in try String(contentsOf: place, encoding: .utf8).matches(of: /\]\(([^)#:]*)(?:#([^)]+))?\)/) {
            let target =
                link.1.isEmpty ? place : place.deletingLastPathComponent().appending(path: link.1).standardizedFileURL
            try #require(FileManager.default.fileExists(atPath: target.path), "\(link.0)")
            guard let anchor = link.2 else { continue }
            let headings = try String(contentsOf: target, encoding: .utf8).split(separator: "\n").filter {
                $0.hasPrefix("#")
            }
            #expect(headings.map(Self.anchor).contains(String(anchor)), "\(link.0)")
        }
    }

    /// What forges make of a heading to link to it.
    private static func anchor(of heading: Substring) -> String {
        let text = heading.drop { $0 == "#" }.dropFirst().lowercased()
        return String(text.filter { $0.isLetter || $0.isNumber || "-_ ".contains($0) }.map { $0 == " " ? "-" : $0 })
    }

    // MARK: - What the program knows

    private struct Tool: Decodable {
        struct Command: Decodable {
            var commandName: String
            var subcommands: [Command]?
            var arguments: [Argument]?
        }
        struct Argument: Decodable {
            struct Name: Decodable {
                var kind: String
                var name: String
            }
            var names: [Name]?
        }
        var command: Command
    }

    private struct Known {
        var path: [String]
        var options: Set<String>
    }

    /// All commands that do something, with their options but `--help`.
    private static func commands() throws -> [Known] {
        let tool = try JSONDecoder().decode(Tool.self, from: Data(Flexicast._dumpHelp().utf8))
        func gather(_ command: Tool.Command, _ path: [String]) -> [Known] {
            let parts = (command.subcommands ?? []).filter { $0.commandName != "help" }
            guard parts.isEmpty else { return parts.flatMap { gather($0, path + [$0.commandName]) } }
            let names = (command.arguments ?? []).flatMap { $0.names ?? [] }.filter { $0.kind == "long" }
            return [Known(path: path, options: Set(names.map { "--" + $0.name }).subtracting(["--help"]))]
        }
        return gather(tool.command, [])
    }

    private func options(of path: [String]) throws -> Set<String> {
        try #require(try Self.commands().first { $0.path == path }, "no command \(path)").options
    }

    // MARK: - What the manual names

    private static func optionNames(in text: String) -> Set<String> {
        Set(text.matches(of: /(?:^|[^-\w])(--[a-z][a-z-]*)/).map { String($0.1) })
    }

    /// Options in the first column of the tables between a heading and the next one; nil without that heading.
    private static func optionsInTables(under heading: String, of text: String) -> Set<String>? {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        guard let start = lines.firstIndex(where: { $0.hasPrefix("#") && $0.drop { $0 == "#" } == " \(heading)" })
        else {
            return nil
        }
        let body = lines[(start + 1)...].prefix { !$0.hasPrefix("#") }
        var named: Set<String> = []
        for line in body where line.hasPrefix("|") {
            // An escaped bar is no border.
            let cell = line.dropFirst().replacing("\\|", with: " ").prefix { $0 != "|" }
            named.formUnion(optionNames(in: String(cell)))
        }
        return named
    }
}
