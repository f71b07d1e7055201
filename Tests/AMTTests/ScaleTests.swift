import Testing

/// Ten thousand endpoints: what one costs. Times are printed and not judged, since they are the machine's.
@Suite(.serialized) struct ScaleTests {
    @Test(arguments: ScaleRun.Kind.allCases) func tenThousandEndpoints(kind: ScaleRun.Kind) throws {
        var run = ScaleRun(kind, count: 10_000)
        let outcome = run.run()
        let result = try #require(outcome)
        print("scale: \(result)")
        #expect(result.octetsJoined < 1024)
        #expect(result.octetsRefreshed < 1024)
    }
}
