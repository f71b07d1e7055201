import Foundation
import TestSupport
import Testing

@Suite("Published vectors of a flow")
struct FlowVectorTests {
    static let directory = Machine.root.appending(path: "Tests/vectors")
    static let files = FlowVectorMaker.all().keys.sorted().map { directory.appending(path: "\($0).json") }

    /// What others test against stays what our code does. FLEXICAST_WRITE_VECTORS=1 writes the files anew.
    @Test func areWhatTheCodeGives() throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        for (name, vectors) in FlowVectorMaker.all() {
            let made = try encoder.encode(vectors) + Data([0x0a])
            let file = Self.directory.appending(path: "\(name).json")
            if ProcessInfo.processInfo.environment["FLEXICAST_WRITE_VECTORS"] == "1" { try made.write(to: file) }
            let published = try Data(contentsOf: file)
            #expect(published == made, "\(file.lastPathComponent) differs from what the code gives")
        }
    }

    static let check = directory.appending(path: "check.py").path

    /// A reading of the drafts and RFCs that shares no code with ours agrees.
    @Test(.enabled(if: Machine.hasAioquic, "aioquic is missing: make test installs it into .build/venv"))
    func areRightByAnotherReading() throws {
        let result = try run(Machine.python, [Self.check])
        #expect(result.status == 0, "\(result.errors)")
        #expect(result.output.contains("3 flows, 18 packets"), "\(result.output)")
    }

    /// The check sees one wrong digit, wherever it is.
    @Test(
        .enabled(if: Machine.hasAioquic, "aioquic is missing: make test installs it into .build/venv"),
        arguments: ["octets", "secret", "nonce", "payload", "mask", "sample", "header_protection", "iv"])
    func oneWrongDigitIsSeen(_ field: String) throws {
        var text = try String(contentsOf: Self.files[0], encoding: .utf8)
        // The last one of its name.
        let name = try #require(text.range(of: "\"\(field)\" : \"", options: .backwards))
        let digit = text[name.upperBound]
        text.replaceSubrange(name.upperBound...name.upperBound, with: digit == "0" ? "1" : "0")
        let directory = try TemporaryDirectory()
        let changed = directory.url.appending(path: "changed.json")
        try Data(text.utf8).write(to: changed)
        let result = try run(Machine.python, [Self.check, changed.path])
        #expect(result.status == 1, "\(result.output)\(result.errors)")
    }
}
