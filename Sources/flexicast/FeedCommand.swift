import ArgumentParser
import Feeds

struct FeedCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "feed", abstract: "Look at feeds.", subcommands: [FeedCheckCommand.self])
}

struct FeedCheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Tell what a source would send of a feed, and why not.",
        discussion: """
            Exit status 0 when all of each feed would be sent and nothing is wrong with it, 2 when something is left out or a \
            feed was read in spite of a fault, 1 when one cannot be read.
            """)

    @Argument(help: ArgumentHelp("Feeds, as source --feed has them.", valueName: "url"))
    var feeds: [String]

    @Flag(help: "Refuse a feed that is not well-formed, as source --strict does.")
    var strict = false

    @Flag(help: "A line of JSON for each feed instead of words.")
    var json = false

    func run() throws {
        var status: Int32 = 0
        for feed in feeds {
            let check = try FeedCheck(feed, strict: strict)
            print(json ? check.json : check.text)
            if check.failure != nil { status = 1 } else if !check.isGood, status == 0 { status = 2 }
        }
        if status != 0 { throw ExitCode(status) }
    }
}
