import QUIC
import Testing
import Wire

@testable import Flexicast

/// What both ends know of a flow's path, and when that goes.
@Suite struct PathStateTests {
    /// However a receiver's listening ends, the path's state goes (draft section 6.1), and a JOIN opens it anew.
    @Test(arguments: ["asked", "put out", "silence", "withdrawn"]) func leavingDropsThePath(how: String) throws {
        let pair = SessionPair()
        pair.announce(0)
        try pair.settle()
        pair.open(0, packet: 1)
        try pair.settle()
        pair.receiverActions = []
        switch how {
        case "asked": pair.receiver.leave(SessionPair.flow(0), at: pair.now)
        case "put out": pair.source.evict(SessionPair.flow(0), at: pair.now)
        case "silence": pair.receiver.timerFired(at: pair.now + .seconds(2))
        default: _ = pair.source.withdraw(SessionPair.flow(0))
        }
        pair.drain()
        try pair.settle()
        let closed = ReceiverAction.closeReceivePath(SessionPair.flow(0), pathID: 1)
        #expect(pair.receiverActions.count { $0 == closed } == 1)
        guard how == "asked" else { return }
        pair.receiverActions = []
        pair.receiver.join(SessionPair.flow(0), at: pair.now)
        pair.drain()
        try pair.settle()
        let opened = pair.receiverActions.filter { if case .openReceivePath = $0 { true } else { false } }
        #expect(opened.count == 1)
    }

    /// A path ID is used once (draft-ietf-quic-multipath-21 section 3.4): whose path is abandoned, by either end, has left the flow
    /// for good.
    @Test func anAbandonedPathEndsTheFlow() throws {
        let id = SessionPair.flow(0)
        var pair = SessionPair()
        pair.announce(0)
        try pair.settle()
        pair.open(0, packet: 1)
        try pair.settle()
        pair.receiver.pathAbandoned(1)
        pair.drain()
        try pair.settle()
        #expect(pair.source.member(of: id) == nil)
        pair.receiver.join(id, at: pair.now)
        pair.drain()
        try pair.settle()
        #expect(pair.receiver.state(of: id) == .aware)

        pair = SessionPair()
        pair.announce(0)
        try pair.settle()
        pair.open(0, packet: 1)
        try pair.settle()
        guard case .member? = pair.source.pathAbandoned(1) else { return #expect(Bool(false), "no member left") }
        #expect(pair.source.member(of: id) == nil)
        pair.receiver.leave(id, at: pair.now)
        pair.receiver.join(id, at: pair.now)
        pair.drain()
        try pair.settle()
        #expect(!pair.source.hasJoined(id) && pair.receiver.state(of: id) == .left)
    }

    /// A source of neither IP version breaks a rule (draft section 4), and so does one whose value is not two octets.
    @Test func whatTheSourceSupportsIsLookedAt() {
        func closedWith(_ support: [UInt8]) -> TransportError.Code? {
            var client = FlowClient(seed: SeededRandom(seed: 1))
            var link = StandInClientLink(support: support)
            client.handle(.connected, on: &link, at: Instant(nanoseconds: 0))
            return link.error?.code
        }
        #expect(closedWith([0, 0]) == .flexicastViolation)
        #expect(closedWith([1]) == .transportParameterError)
        #expect(closedWith([]) == nil && closedWith([0, 1]) == nil && closedWith([1, 0]) == nil)
    }
}
