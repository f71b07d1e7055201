import ArgumentParser

/// A command that reads files which can be looked at without running it.
protocol ReadsFiles {
    /// What is wrong with the files that its options name, each with the name of the option.
    func fileProblems() -> [String]
}

extension ReadsFiles {
    /// What comes of an attempt: nothing, or why it failed.
    func problem(_ option: String, _ attempt: () throws -> Void) -> [String] {
        do {
            try attempt()
            return []
        } catch { return ["\(option): \(error)"] }
    }
}

/// Tells everything that does not go together, a line each.
func refuse(_ problems: [String]) throws {
    guard problems.isEmpty else { throw ValidationError(problems.joined(separator: "\n")) }
}

struct CheckConfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check-config",
        abstract: "Tell all that is wrong with a configuration file, without running anything.",
        discussion: """
            Checks each table of the file as the command of its name would with --config, and the files that it names. Exit \
            status 0: all is well; 1: it is not, and each problem is told with its line.
            """)

    @Argument(help: "The file.")
    var file: String

    func run() throws {
        let problems: [ConfigurationProblem]
        do {
            problems = try Self.problems(in: ConfigurationFile(path: file))
        } catch let found as ConfigurationProblems { problems = found.all }
        for problem in problems { print(problem) }
        guard problems.isEmpty else { throw ExitCode.failure }
    }

    static func problems(in file: ConfigurationFile) throws -> [ConfigurationProblem] {
        var problems = file.problems
        if file.text.tables.isEmpty, problems.isEmpty {
            problems.append(
                ConfigurationProblem(place: file.path, message: "there is no table in it, such as [source]"))
        }
        for (name, command) in KnownOption.commands where file.text.tables.contains(where: { $0.name == name }) {
            let settings = try file.settings(of: name, KnownOption.all(of: command), problems: &problems)
            let (arguments, more) = ConfiguredCommand.judge(
                settings, command, [], elsewhere: "\(file.path): [\(name)]")
            problems += more
            guard more.isEmpty, let parsed = try? command.parse(arguments) as? any ReadsFiles else { continue }
            for message in parsed.fileProblems() {
                let setting = settings.first { ConfiguredCommand.mentions(message, $0.option) }
                problems.append(
                    setting?.problem(message)
                        ?? ConfigurationProblem(place: "\(file.path): [\(name)]", message: message))
            }
        }
        return problems.sorted { ($0.line ?? .max) < ($1.line ?? .max) }
    }
}
