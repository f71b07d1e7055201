import ArgumentParser
import Logging
import Reactor
import Synchronization

/// All that is wrong with a configuration.
struct ConfigurationProblems: Error, CustomStringConvertible {
    var all: [ConfigurationProblem]

    var description: String { all.map(\.description).joined(separator: "\n") }
}

/// A command that has settings from a file and from variables besides those of the command line, which go before the others:
/// command line, `FLEXICAST_COMMAND_OPTION`, file.
///
/// Whatever the options are: names, values and what goes with what are the parser's to judge. A setting becomes the argument
/// that says the same, and stands before those of the command line.
struct ConfiguredCommand: Sendable {
    let name: String
    /// What follows the command's name.
    let commandLine: [String]
    let environment: [String: String]

    /// The one that this process runs; nil when it has no settings of this kind.
    static let current = Mutex<ConfiguredCommand?>(nil)

    /// Octets of a file.
    static let fileLimit = 1 << 20

    /// Nil when the command line is not one of a command that can be configured, or asks for help alone.
    init?(commandLine: [String], environment: [String: String]) {
        guard let name = commandLine.first, KnownOption.command(name) != nil,
            !commandLine.contains(where: { ["--help", "-h", "--version"].contains($0) })
        else { return nil }
        self.name = name
        self.commandLine = Array(commandLine.dropFirst())
        self.environment = environment
    }

    /// What a file or a variable says.
    struct Setting {
        var option: KnownOption
        var value: ConfigurationText.Value
        var place: String
        var line: Int?

        func problem(_ message: String) -> ConfigurationProblem {
            ConfigurationProblem(place: place, line: line, message: message)
        }
    }

    /// The whole command line, the settings included.
    ///
    /// - Parameter warnings: what is odd and hinders nothing.
    /// - Throws: `ConfigurationProblems`, all there are.
    func arguments(warnings: inout [String]) throws -> [String] {
        guard let command = KnownOption.command(name) else { return commandLine }
        let options = try KnownOption.all(of: command)
        let mentioned = Set(options.values(in: commandLine).keys)
        var settings = variables(options, warnings: &warnings).filter { !mentioned.contains($0.option.key) }
        var problems: [ConfigurationProblem] = []
        if let path = configurationPath(settings) {
            let above = mentioned.union(settings.map(\.option.key))
            let file = try ConfigurationFile(path: path)
            problems += file.problems
            // What is said elsewhere is not looked at here, but for its name.
            settings += file.settings(of: name, options, problems: &problems).filter { !above.contains($0.option.key) }
        }
        guard !settings.isEmpty || !problems.isEmpty else { return [name] + commandLine }
        let (arguments, more) = Self.judge(settings, command, commandLine)
        problems += more
        guard problems.isEmpty else { throw ConfigurationProblems(all: problems) }
        return [name] + arguments
    }

    private func configurationPath(_ variables: [Setting]) -> String? {
        for (index, argument) in commandLine.enumerated() {
            if argument == "--config", index + 1 < commandLine.count { return commandLine[index + 1] }
            if argument.hasPrefix("--config=") { return String(argument.dropFirst("--config=".count)) }
        }
        if case .text(let path)? = variables.first(where: { $0.option.key == "config" })?.value { return path }
        return nil
    }

    private func variables(_ options: [KnownOption], warnings: inout [String]) -> [Setting] {
        let prefix = "FLEXICAST_\(name.uppercased())_"
        var settings: [Setting] = []
        for (variable, text) in environment.sorted(by: { $0.key < $1.key }) where variable.hasPrefix(prefix) {
            let key = variable.dropFirst(prefix.count).lowercased().replacing("_", with: "-")
            guard let option = options.named(key) else {
                // Others make variables too, such as Kubernetes for a service of that name.
                warnings.append("\(variable) is ignored: flexicast \(name) has no option --\(key)")
                continue
            }
            let value: ConfigurationText.Value =
                switch option.kind {
                case .flag where ["true", "1"].contains(text): .truth(true)
                case .flag where ["false", "0", ""].contains(text): .truth(false)
                case _ where option.takesSeveral: .array(text.split(whereSeparator: \.isWhitespace).map(String.init))
                default: .text(text)
                }
            settings.append(Setting(option: option, value: value, place: variable))
        }
        return settings
    }

    // MARK: - Reading again

    /// For a command that reads its settings again while it runs; nil when this process has none.
    static func reading() throws -> Reading? {
        try current.withLock(\.self).map { command in
            var warnings: [String] = []
            return Reading(command: command, arguments: try command.arguments(warnings: &warnings))
        }
    }

    /// What a command's settings were when they were read last.
    struct Reading {
        let command: ConfiguredCommand
        fileprivate(set) var arguments: [String]

        /// - Returns: the command as it is to be now, and the options that are not as they were.
        /// - Throws: `ConfigurationProblems`; nothing has changed then.
        mutating func again<Command: ParsableCommand>(
            as type: Command.Type
        ) throws -> (command: Command, changed: Set<String>) {
            var warnings: [String] = []
            let new = try command.arguments(warnings: &warnings)
            let parsed: Command
            do { parsed = try type.parse(Array(new.dropFirst())) } catch {
                throw ConfigurationProblems(
                    all: [ConfigurationProblem(place: command.name, message: type.message(for: error))])
            }
            let problems = (parsed as? any ReadsFiles)?.fileProblems() ?? []
            guard problems.isEmpty else {
                throw ConfigurationProblems(
                    all: problems.map { ConfigurationProblem(place: command.name, message: $0) })
            }
            let options = try KnownOption.all(of: type)
            let (before, after) = (options.values(in: arguments.dropFirst()), options.values(in: new.dropFirst()))
            arguments = new
            return (parsed, Set(options.map(\.key).filter { before[$0] != after[$0] }))
        }
    }

    /// Reads the settings again, sets the log's level, and tells what takes a restart.
    ///
    /// - Parameter changeable: options that take effect while the command runs, besides the log's level.
    /// - Returns: what gives the command as it is to be; nil when there is a fault, which was logged.
    static func reloading<Command: ParsableCommand & Logs>(
        _ type: Command.Type, changeable: Set<String> = [], log: Logger
    ) throws -> () -> Command? {
        guard var reading = try reading() else { return { nil } }
        return {
            do {
                let (command, changed) = try reading.again(as: type)
                LineLogHandler.level = command.common.logLevel
                let others = changed.subtracting(changeable).subtracting(["log-level", "config"]).sorted()
                if !others.isEmpty {
                    log.warning(
                        "some options take a restart", metadata: ["options": "\(others.joined(separator: ", "))"])
                }
                log.notice("the configuration was read again")
                return command
            } catch {
                for problem in (error as? ConfigurationProblems)?.all.map(\.description) ?? ["\(error)"] {
                    log.error("the configuration stays as it was", metadata: ["reason": "\(problem)"])
                }
                return nil
            }
        }
    }

    // MARK: - Judging

    /// The arguments that settings come to, those of the command line behind them, and what the parser has against them.
    ///
    /// - Parameter place: what is to blame for what no setting is to blame for; nil leaves that to whoever parses the arguments.
    static func judge(
        _ settings: [Setting], _ command: any ParsableCommand.Type, _ commandLine: [String],
        elsewhere place: String? = nil
    ) -> (arguments: [String], problems: [ConfigurationProblem]) {
        var arguments: [String] = []
        var problems: [ConfigurationProblem] = []
        var refused: Set<String> = []
        for setting in settings {
            do throws(ConfigurationProblem) {
                let some = try Self.arguments(of: setting)
                if let message = refusal(of: some, command) { throw setting.problem(message) }
                arguments += some
            } catch {
                problems.append(error)
                refused.insert(setting.option.key)
            }
        }
        arguments += commandLine
        for message in complaints(about: arguments, command) {
            // What was taken out above is not missing.
            if message.hasPrefix("Missing "), refused.contains(where: { message.contains($0) }) { continue }
            if let setting = settings.first(where: { mentions(message, $0.option) }) {
                problems.append(setting.problem(message))
            } else if let place {
                problems.append(ConfigurationProblem(place: place, message: message))
            }
        }
        return (arguments, problems)
    }

    static func mentions(_ message: String, _ option: KnownOption) -> Bool {
        option.kind != .positional
            && option.names.contains { name in
                message.split { !($0.isLetter || $0.isNumber || $0 == "-") }.contains("--" + name)
            }
    }

    /// What the parser says of one setting's value, whatever else may be needed.
    private static func refusal(of arguments: [String], _ command: any ParsableCommand.Type) -> String? {
        // An error of the form comes before one of what is missing, or does not go together.
        complaints(about: arguments, command).first {
            $0.hasPrefix("The value ") || $0.hasPrefix("Unexpected argument")
        }
    }

    private static func complaints(about arguments: [String], _ command: any ParsableCommand.Type) -> [String] {
        do {
            _ = try command.parse(arguments)
            return []
        } catch {
            return command.message(for: error).split(separator: "\n").map(String.init)
        }
    }

    private static func arguments(of setting: Setting) throws(ConfigurationProblem) -> [String] {
        let option = setting.option
        let values: [String]
        switch setting.value {
        case .truth(let isOn):
            guard option.kind == .flag else { throw setting.problem("\(option.key) takes a value, not \(isOn)") }
            return isOn ? ["--" + option.key] : []
        case .text(let text): values = [text]
        case .array(let several):
            guard option.takesSeveral else { throw setting.problem("\(option.key) takes one value, not an array") }
            values = several
        }
        guard option.kind != .flag else { throw setting.problem("\(option.key) is true or false") }
        if option.kind == .positional {
            guard let value = values.first, !value.hasPrefix("-") else {
                throw setting.problem("\(option.key) does not begin with -")
            }
            return [value]
        }
        return values.map { "--\(option.key)=\($0)" }
    }
}

/// A command with a log.
protocol Logs {
    var common: CommonOptions { get }
}

/// A configuration file that was read.
struct ConfigurationFile {
    let path: String
    let text: ConfigurationText

    /// - Throws: `ConfigurationProblems` when it cannot be read.
    init(path: String) throws {
        func fail(_ message: String) -> ConfigurationProblems {
            ConfigurationProblems(all: [ConfigurationProblem(place: path, message: message)])
        }
        let bytes: [UInt8]?
        do throws(FileError) {
            bytes = try StoredFile.read(path, limit: ConfiguredCommand.fileLimit)
        } catch { throw fail("it cannot be read: \(error.reason)") }
        guard let bytes else { throw fail("there is no such file") }
        guard let string = String(validating: bytes, as: UTF8.self) else { throw fail("this is no UTF-8") }
        self.path = path
        text = ConfigurationText(string)
    }

    /// What is wrong with it, whatever command it is for.
    var problems: [ConfigurationProblem] {
        let known = KnownOption.commands.map(\.name)
        let strange = text.tables.filter { !known.contains($0.name) }.map { table in
            (
                line: table.line,
                message: "there is no table [\(table.name)]: there are [\(known.joined(separator: "], ["))]"
            )
        }
        return (text.problems + strange).sorted { $0.line < $1.line }
            .map { ConfigurationProblem(place: path, line: $0.line, message: $0.message) }
    }

    /// What it says of a command. Keys that are no options are added to `problems`.
    func settings(
        of command: String, _ options: [KnownOption], problems: inout [ConfigurationProblem]
    ) -> [ConfiguredCommand.Setting] {
        text.entries.filter { $0.table == command }.compactMap { entry in
            guard let option = options.named(entry.key), option.key != "config" else {
                let hint = options.nearest(to: entry.key).map { "; do you mean \($0)?" } ?? ""
                problems.append(
                    ConfigurationProblem(
                        place: path, line: entry.line,
                        message: "flexicast \(command) has no option --\(entry.key)\(hint)"))
                return nil
            }
            return ConfiguredCommand.Setting(option: option, value: entry.value, place: path, line: entry.line)
        }
    }
}
