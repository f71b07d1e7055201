import QUIC
import Testing
import Wire

@testable import Flexicast

@Suite("The source's end of one connection") struct SourceSessionTests {
    private static func session() throws -> SourceSession {
        var session = SourceSession(support: FlexicastSupport(), maximumPathID: 4, at: Instant(nanoseconds: 1))
        session.announce(World.flowID, World.parameters)
        try say(.join, 0, to: &session)
        while session.nextAction() != nil {}
        return session
    }

    private static func say(_ action: StateFrame.Action, _ sequence: UInt64, to session: inout SourceSession) throws {
        let frame = StateFrame(flowID: World.flowID, sequence: sequence, action: action).encoded
        _ = try session.frameReceived(type: FlexicastFrameType.state, body: frame.span.extracting(droppingFirst: 2))
    }

    /// Each READY that was acted upon would be another member of the flow, which nobody acknowledges for.
    @Test func readyCountsOnce() throws {
        var session = try Self.session()
        for sequence in UInt64(1)...20 { try Self.say(.ready, sequence, to: &session) }
        var ready = 0
        while let action = session.nextAction() { if case .ready = action { ready += 1 } }
        #expect(ready == 1)
        #expect(session.framesIgnored == 19)
    }

    /// The shell learns of a READY after the datagram: what else that held counts too.
    @Test(arguments: [StateFrame.Action.leave, .join]) func readyTakenBack(_ action: StateFrame.Action) throws {
        var session = try Self.session()
        try Self.say(.ready, 1, to: &session)
        #expect(session.awaitsMembership(in: World.flowID))
        try Self.say(action, 2, to: &session)
        #expect(!session.awaitsMembership(in: World.flowID))
    }
}
