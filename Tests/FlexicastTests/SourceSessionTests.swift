import QUIC
import Testing
import Wire

@testable import Flexicast

@Suite("The source's end of one connection") struct SourceSessionTests {
    private static let now = Instant(nanoseconds: 1)

    private static func session() throws -> SourceSession {
        var session = SourceSession(support: FlexicastSupport(), maximumPathID: 4)
        session.announce(World.flowID, World.parameters, at: now)
        #expect(try say(.join, 0, to: &session).next == .giveKeys(World.flowID))
        return session
    }

    private static func say(
        _ action: StateFrame.Action, _ sequence: UInt64, to session: inout SourceSession
    ) throws -> StateAnswer {
        try session.stateReceived(StateFrame(flowID: World.flowID, sequence: sequence, action: action), at: now)
    }

    /// Each READY that was acted upon would be another member of the flow, which nobody acknowledges for.
    @Test func readyCountsOnce() throws {
        var session = try Self.session()
        var ready = 0
        for sequence in UInt64(1)...20 {
            if try Self.say(.ready, sequence, to: &session).next == .admit(World.flowID) { ready += 1 }
        }
        #expect(ready == 1)
        #expect(session.framesIgnored == 19)
    }

    /// Who takes READY back has not become a member in between: what ended is a key that it holds.
    @Test(arguments: [StateFrame.Action.leave, .join]) func readyTakenBack(_ action: StateFrame.Action) throws {
        var session = try Self.session()
        _ = try Self.say(.ready, 1, to: &session)
        let answer = try Self.say(action, 2, to: &session)
        #expect(answer.ended == (action == .leave ? .keyHolder : nil))
        #expect(session.member(of: World.flowID) == nil)
    }
}
