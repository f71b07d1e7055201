import Testing

@testable import flexicast

/// `--retain`: limits in any order, each once.
@Suite struct RetentionArgumentTests {
    @Test(
        arguments: [
            ("100000,30d,10GB", 100_000, Duration.seconds(30 * 86_400), 10_000_000_000),
            ("10GB,30d,100000", 100_000, .seconds(30 * 86_400), 10_000_000_000), ("7", 7, nil, nil),
            ("36h", nil, .seconds(129_600), nil),
            ("1.5d", nil, .seconds(129_600), nil), ("64MiB", nil, nil, 64 << 20),
            ("0.5TB,90m", nil, .seconds(5400), 500_000_000_000),
        ] as [(String, Int?, Duration?, Int?)])
    func whatIsLimited(_ text: String, objects: Int?, age: Duration?, octets: Int?) throws {
        let argument = try RetentionArgument(text)
        #expect(argument.objects == objects && argument.age == age && argument.octets == octets)
    }

    @Test(arguments: [
        ("", "'' is no limit"), ("10,", "'' is no limit"), ("10M", "'10M' is no limit"),
        ("10 GB", "'10 GB' is no limit"),
        ("ten", "'ten' is no limit"), ("nand", "write days"), ("0", "write a number of items"),
        ("-5", "write a number of items"),
        ("1,2", "says items twice"), ("1d,2h", "says a time twice"), ("1GB,2MiB", "says octets twice"),
        ("99999TB", "write octets from 1MiB"), ("infd", "write days"), ("1e9d", "write days"),
        ("5xs", "not a duration"),
    ])
    func whatIsRefused(_ text: String, said: String) {
        let problem = #expect(throws: ArgumentProblem.self) { try RetentionArgument(text) }
        #expect(problem.map { "\($0)".contains(said) } == true, "\(String(describing: problem))")
    }
}
