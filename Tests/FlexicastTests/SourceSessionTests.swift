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

    /// A frame whose sequence number is not above that of another is stale, the same frame again above all: a
    /// JOIN would have the keys told anew, a LEAVE would end a membership that has begun since.
    @Test(arguments: [StateFrame.Action.join, .ready, .leave], [UInt64(0), 1]) func equalSequences(
        _ action: StateFrame.Action, _ sequence: UInt64
    ) throws {
        var session = try Self.session()
        #expect(try Self.say(.ready, 1, to: &session).next == .admit(World.flowID))
        let answer = try Self.say(action, sequence, to: &session)
        #expect(answer == .nothing && session.framesIgnored == 1)
    }

    /// At the receiver: a LEAVE that comes again does not end what has begun since.
    @Test func aRepeatedLeaveIsIgnored() throws {
        var (session, now) = ReceiverTableTests.session(in: .listening)
        try ReceiverTableTests.leaveFrame(&session, sequence: 2)
        #expect(session.state(of: World.flowID) == .left)
        while session.state(of: World.flowID) == .left {
            now += .milliseconds(100)
            session.flowPacketHeard(World.flowID, at: now)
        }
        ReceiverTableTests.key(&session, sequence: 10)
        _ = session.flowPacketOpened(World.flowID, generation: 10, packetNumber: 20, at: now)
        #expect(session.state(of: World.flowID) == .listening)
        let ignored = session.statistics.framesIgnored
        for sequence: UInt64 in [2, 1, 0] { try ReceiverTableTests.leaveFrame(&session, sequence: sequence) }
        #expect(session.state(of: World.flowID) == .listening && session.statistics.framesIgnored == ignored + 3)
        try ReceiverTableTests.leaveFrame(&session, sequence: 3)
        #expect(session.state(of: World.flowID) == .left)
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
