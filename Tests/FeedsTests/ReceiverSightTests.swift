import Testing
import Transport
import Wire

@testable import Feeds

/// By which way a receiver says that its items come.
@Suite struct ReceiverSightTests {
    @Test(arguments: [(PathChoice.auto, ReceiverWay.flow), (.multicast, .flow), (.amt, .amt)])
    func theFlowComesByTheWayItWasLookedFor(path: PathChoice, way: ReceiverWay) throws {
        let group = try #require(SocketAddress("239.1.1.1:5000"))
        var sight = ReceiverSight(path)
        #expect(sight.way == .none)
        sight.handle(.connected(to: try #require(SocketAddress("192.0.2.1:4433"))))
        #expect(sight.way == .unicast)
        sight.handle(.listening(group: group))
        #expect(sight.way == way)
        // It is looked for another way, and heard by that.
        sight.handle(.fellBack(.silence))
        #expect(sight.way == .unicast)
        sight.handle(.way(.amt))
        sight.handle(.listening(group: group))
        #expect(sight.way == .amt)
    }
}
