import ArgumentParser
import Foundation
import TestSupport
import Testing
import Wire

@testable import flexicast

/// The form of configuration files, beside Python's reader of TOML and by what the format says.
@Suite struct ConfigurationTextTests {
    typealias Value = ConfigurationText.Value

    private func value(_ text: String) -> Value? {
        let read = ConfigurationText("[a]\nk = \(text)\n")
        return read.problems.isEmpty ? read.entries.first?.value : nil
    }

    @Test(arguments: [
        (#""plain""#, Value.text("plain")), (#""""#, .text("")), (#"'C:\new'"#, .text(#"C:\new"#)),
        (#""a\t\"\\\u00e9\U0001F600""#, .text("a\t\"\\é😀")), (##""#no comment" # but this"##, .text("#no comment")),
        ("5", .text("5")), ("-1_000", .text("-1000")), ("+7", .text("7")), ("0.25", .text("0.25")),
        ("true", .truth(true)),
        ("false", .truth(false)), ("[]", .array([])), ("['a', \"b\", 3]", .array(["a", "b", "3"])),
        ("[ # first\n  'a',\n\n  'b', # last\n]", .array(["a", "b"])),
    ])
    func values(text: String, expected: Value) throws { #expect(value(text) == expected) }

    /// TOML that another reader takes is read the same here.
    @Test(.enabled(if: Machine.has("python3"), "python3 is not installed"))
    func anotherReaderAgrees() throws {
        let text =
            "[source]\nlisten = \":4433\" # c\nfeed = ['a\\b', \"\\u00e9\",\n]\nhistory = 1_000\nreplicate = true\n"
        let script = "import json, sys, tomllib; print(json.dumps(tomllib.loads(sys.stdin.read())['source']))"
        let python = try run(Machine.path(of: "python3") ?? "python3", ["-c", script], input: text)
        struct Source: Decodable {
            var listen: String
            var feed: [String]
            var history: Int
            var replicate: Bool
        }
        let theirs = try JSONDecoder().decode(Source.self, from: Data(python.output.utf8))
        let ours = ConfigurationText(text).entries
        #expect(ours.map(\.key) == ["listen", "feed", "history", "replicate"] && ours.map(\.line) == [2, 3, 5, 6])
        #expect(
            ours.map(\.value) == [
                .text(theirs.listen), .array(theirs.feed), .text("\(theirs.history)"), .truth(theirs.replicate),
            ])
    }

    /// What is wrong is told with its line, and what follows is read all the same.
    @Test(arguments: [
        ("k = 5s", "texts stand in quotation marks, \"5s\""), ("k = \"a", "no quotation mark at its end"),
        ("k", "KEY = VALUE"), ("k =", "there is no value"), ("k = 1 2", "behind the value"), ("k.a = 1", "dotted keys"),
        ("k = {a = 1}", "inline tables"), ("k = '''a'''", "several lines"), ("[[a]]", "arrays of tables"),
        ("k = 1979-05-27", "is no number"), ("k = [true]", "texts or numbers"), ("k = 01", "is no number"),
        (#"k = "\x""#, "means nothing"), (#"k = "\ud800""#, "is no character"), ("l = 2", "l is there twice in [t]"),
        ("= 1", "[TABLE] or KEY"), ("k = 1 ] ", "behind the value"), ("[t]", "[t] is there twice"),
        ("k = _1", "is no number"),
    ])
    func problemsHaveLines(text: String, message: String) {
        let read = ConfigurationText("[t]\nl = 1\n\(text)\n[u]\nm = 2\n")
        #expect(read.problems.count == 1 && read.problems.first?.line == 3)
        #expect(read.problems.first?.message.contains(message) == true, "\(read.problems)")
        #expect(read.entries.last == .init(table: "u", key: "m", value: .text("2"), line: 5))
    }

    @Test func aKeyNeedsATable() {
        #expect(ConfigurationText("k = 1").problems.first?.message.contains("in no table") == true)
    }

    /// Whatever octets come, they are read to their end.
    @Test func anythingIsReadToItsEnd() {
        let pieces = [
            "[", "]", "a", "=", "\"", "'", "\\", "\n", "\r\n", "#", ",", "1", "{", ".", " ", "é", "\u{0}", "true",
        ]
        var random = SystemRandomNumberGenerator()
        for _ in 0..<3000 {
            let text = (0..<Int.random(in: 0...24, using: &random)).compactMap { _ in
                pieces.randomElement(using: &random)
            }
            .joined()
            let read = ConfigurationText(text)
            #expect(read.problems.allSatisfy { $0.line <= text.count(where: \.isNewline) + 1 }, "\(text)")
        }
    }
}

/// Files and variables become what the command line would say.
@Suite struct ConfiguredCommandTests {
    private let directory: TemporaryDirectory
    private let file: String

    init() throws {
        directory = try TemporaryDirectory()
        file = directory.url.appending(path: "flexicast.toml").path
    }

    private func write(_ text: String) throws { try Data(text.utf8).write(to: URL(filePath: file)) }

    private func expanded(_ commandLine: [String], _ environment: [String: String] = [:]) throws -> [String] {
        var warnings: [String] = []
        let command = try #require(ConfiguredCommand(commandLine: commandLine, environment: environment))
        return try command.arguments(warnings: &warnings)
    }

    private func problems(_ commandLine: [String], _ environment: [String: String] = [:]) throws -> [String] {
        do {
            _ = try expanded(commandLine, environment)
            return []
        } catch let found as ConfigurationProblems { return found.all.map(\.description) }
    }

    @Test func theCommandLineGoesBeforeVariablesAndTheseBeforeTheFile() throws {
        try write(
            """
            [source]
            feed = "/srv/file.atom"
            listen = "127.0.0.1:1"
            poll = "1s"
            history = 1
            replicate = true
            [receive]
            server = "file.example:1"
            """)
        let variables = [
            "FLEXICAST_SOURCE_POLL": "2s", "FLEXICAST_SOURCE_HISTORY": "2", "FLEXICAST_SOURCE_WHOLE_FEED": "1",
        ]
        let arguments = try expanded(["source", "--config", file, "--history", "3"], variables)
        let source = try #require(try Flexicast.parseAsRoot(arguments) as? SourceCommand)
        #expect(source.options.listen == SocketAddress("127.0.0.1:1") && source.options.flow.replicates)
        #expect(source.poll == .seconds(2) && source.wholeFeed && source.history == 3)

        let receive = try #require(
            try Flexicast.parseAsRoot(try expanded(["receive", "--config=\(file)", "--output", "-"])) as? ReceiveCommand
        )
        #expect(receive.server == (try ServerNames("file.example:1")))
        let other = try #require(
            try Flexicast.parseAsRoot(try expanded(["receive", "--output", "-", "a.example:2", "--config", file]))
                as? ReceiveCommand)
        #expect(other.server == (try ServerNames("a.example:2")))
        // The file may be named by a variable.
        #expect(try expanded(["receive"], ["FLEXICAST_RECEIVE_CONFIG": file]).contains("file.example:1"))
    }

    @Test func severalValuesReplaceThoseOfTheFile() throws {
        try write("[relay]\nallow-group = ['232.1.0.0/16', '232.2.0.0/16']\nendpoint-rate = '1M'\n")
        func groups(_ line: [String], _ environment: [String: String] = [:]) throws -> [String] {
            let relay = try Flexicast.parseAsRoot(try expanded(["relay", "--config", file] + line, environment))
            return try #require(relay as? RelayCommand).allowGroup.map(\.description)
        }
        #expect(try groups([]) == ["232.1.0.0/16", "232.2.0.0/16"])
        #expect(try groups(["--allow-group", "232.9.0.0/16"]) == ["232.9.0.0/16"])
        #expect(
            try groups([], ["FLEXICAST_RELAY_ALLOW_GROUP": "232.3.0.0/16  232.4.0.0/16"]) == [
                "232.3.0.0/16", "232.4.0.0/16",
            ])
    }

    /// Each with its line, whatever kind it is of.
    @Test func allProblemsAreToldWithTheirLines() throws {
        try write(
            """
            [source]
            feed = "gopher://x"
            listen = ":1"
            pol = "5s"
            history = "many"
            ttl = 300
            replicate = "yes"
            rate = 1M
            rate-floor = "200M"
            packet-size = [1200, 1300]
            [sauce]
            """)
        let told = try problems(["source", "--config", file])
        for (line, text) in [
            (2, "accepted are http"), (4, "no option --pol; do you mean poll?"), (5, "a number of items"),
            (6, "from 1 to 255"), (7, "true or false"), (8, "quotation marks"), (9, "above --rate"),
            (10, "takes one value"),
            (11, "there is no table [sauce]"),
        ] {
            #expect(told.contains { $0.hasPrefix("\(file):\(line): ") && $0.contains(text) }, "\(line): \(told)")
        }
        #expect(told.count == 9, "\(told)")
        // What the command line says is not looked for in the file.
        #expect(try problems(["source", "--config", file, "--ttl", "3"]).count == 8)
    }

    @Test func variablesAreToldByName() throws {
        #expect(
            try problems(["source", "--feed", "x", "--listen", ":1"], ["FLEXICAST_SOURCE_POLL": "5"]).first?
                .hasPrefix("FLEXICAST_SOURCE_POLL: ") == true)
        var warnings: [String] = []
        let command = try #require(
            ConfiguredCommand(
                commandLine: ["source", "--feed", "x"],
                environment: ["FLEXICAST_SOURCE_PORT": "udp://10.0.0.1:1", "HOME": "/"]))
        #expect(try command.arguments(warnings: &warnings) == ["source", "--feed", "x"])
        #expect(warnings.count == 1 && warnings[0].contains("FLEXICAST_SOURCE_PORT"))
    }

    @Test func aFileThatCannotBeReadIsToldByName() throws {
        #expect(try problems(["source", "--config", file]) == ["\(file): there is no such file"])
        #expect(try problems(["source", "--config", directory.url.path]).first?.contains("regular file") == true)
        try Data([0xff, 0x0a]).write(to: URL(filePath: file))
        #expect(try problems(["source", "--config", file]) == ["\(file): this is no UTF-8"])
    }

    /// Every option that there is can be set by a file, but for the file itself.
    @Test(arguments: KnownOption.commands.map(\.name)) func everyOptionIsKnown(command: String) throws {
        let type = try #require(KnownOption.command(command))
        let options = try KnownOption.all(of: type)
        let help = type.helpMessage(columns: 400)
        for name in help.matches(of: /\n  --([a-z][a-z-]*)/).map(\.output.1) where !["help", "version"].contains(name) {
            #expect(options.named(name) != nil, "\(name)")
        }
    }

    // MARK: - The program

    private static let program = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        .deletingLastPathComponent().appending(path: "flexicast").path

    @Test func theProgramTellsAllAndEndsAsForBadUsage() throws {
        try write("[receive]\nserver = 'nowhere'\ncount = 0\n")
        let result = try run(Self.program, ["receive", "--config", file])
        #expect(result.status == 64)
        #expect(result.errors.contains("\(file):2: ") && result.errors.contains("\(file):3: "), "\(result.errors)")
    }

    @Test func theProgramRunsAsItsFileSays() throws {
        try write("[receive]\nserver = '127.0.0.1:9'\ninsecure = true\ntimeout = '50ms'\nlog-level = 'error'\n")
        let result = try run(Self.program, ["receive"], environment: ["FLEXICAST_RECEIVE_CONFIG": file])
        #expect(result.status == 1)
        #expect(result.errors.contains("no connection to 127.0.0.1:9"), "\(result.errors)")
    }

    @Test func checkConfigTellsWhatAStartWould() throws {
        try write("[source]\nfeed = 'x'\nlisten = ':1'\n\n[relay]\nupstream = 'eth0'\n")
        let good = try run(Self.program, ["check-config", file])
        #expect(good.status == 0 && good.output.isEmpty && good.errors.isEmpty, "\(good)")
        let missing = directory.url.appending(path: "no.pem").path
        try write(
            "[source]\nlisten = ':1'\n[receive]\nserver = 'a:1'\ntrust = '\(missing)'\n[relay]\nmtu = 1\ndrain = '1'\n")
        let bad = try run(Self.program, ["check-config", file])
        #expect(bad.status == 1)
        let lines = bad.output.split(separator: "\n")
        #expect(lines.count == 4, "\(bad.output)")
        #expect(lines.contains { $0.contains("[source]: nothing to send; give --feed") })
        #expect(lines.contains { $0.hasPrefix("\(file):5: --trust: ") && $0.contains(missing) })
        #expect(lines.contains { $0.hasPrefix("\(file):7: ") })
        #expect(lines.contains { $0.hasPrefix("\(file):8: ") })
    }

    @Test func checkConfigReadsCertificates() throws {
        let pem = directory.url.appending(path: "c.pem")
        try Data("no certificate".utf8).write(to: pem)
        try write("[source]\nfeed = 'x'\nlisten = ':1'\ncertificate = '\(pem.path)'\nkey = '\(pem.path)'\n")
        let bad = try run(Self.program, ["check-config", file])
        #expect(bad.status == 1 && bad.output.hasPrefix("\(file):4: --certificate, --key: "), "\(bad.output)")
    }
}
