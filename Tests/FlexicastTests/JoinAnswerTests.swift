import QUIC
import Testing
import Wire

@testable import Flexicast

/// A receiver that may not listen to the flow is told so, and says so.
@Suite("Answers to JOIN") struct JoinAnswerTests {
    private static func actions(_ session: inout ReceiverSession) -> [ReceiverAction] {
        var actions: [ReceiverAction] = []
        while let action = session.nextAction() { actions.append(action) }
        return actions
    }

    /// Of a source that never answers the receiver says so once, and takes the answer all the same.
    @Test func silenceIsToldOnce() {
        var (session, now) = ReceiverTableTests.session(in: .needsKey)
        _ = Self.actions(&session)
        let timeout = ReceiverConfiguration().answerTimeout
        #expect(session.nextDeadline <= now + timeout)
        var told = 0
        for _ in 0..<100 {
            now += .milliseconds(100)
            session.timerFired(at: now)
            let actions = Self.actions(&session)
            if now - Instant(nanoseconds: 1_000_000_000) < timeout { #expect(actions.isEmpty) }
            told += actions.count { $0 == .joinUnanswered(ReceiverTableTests.id) }
        }
        #expect(told == 1)
        #expect(session.statistics.joinsUnanswered == 1)
        #expect(session.state(of: ReceiverTableTests.id) == .needsKey)
        ReceiverTableTests.key(&session, sequence: 3)
        #expect(session.state(of: ReceiverTableTests.id) == .joined)
    }

    @Test(arguments: [ReceiverState.needsKey, .joined]) func aRefusalIsTold(_ state: ReceiverState) throws {
        var (session, _) = ReceiverTableTests.session(in: state)
        _ = Self.actions(&session)
        try ReceiverTableTests.leaveFrame(&session, sequence: 2)
        #expect(Self.actions(&session).contains(.joinRefused(ReceiverTableTests.id)))
        #expect(session.statistics.joinsRefused == 1)
    }

    @Test func whoListenedFellBackInstead() throws {
        var (session, _) = ReceiverTableTests.session(in: .listening)
        _ = Self.actions(&session)
        try ReceiverTableTests.leaveFrame(&session, sequence: 2)
        let actions = Self.actions(&session)
        #expect(actions.contains(.fellBack(ReceiverTableTests.id, .sourceLeft)))
        #expect(!actions.contains(.joinRefused(ReceiverTableTests.id)))
    }
}
