import Testing
import Wire

@testable import QUIC

/// What a connection lets go of that has nothing more to do.
@Suite struct GivenBackTests {
    @Test func aTokenGoesOutUntilItHasArrived() {
        var ids = LocalConnectionIDs(first: ConnectionID([1, 1, 1, 1])!)
        ids.add(ConnectionID([2, 2, 2, 2])!, token: [UInt8](repeating: 2, count: 16))
        #expect(ids.takePending()?.sequence == 1)
        ids.frameLost(1)
        #expect(ids.takePending()?.token == [UInt8](repeating: 2, count: 16))
        ids.frameLost(1)
        // The frame thought to be lost has arrived.
        ids.frameAcknowledged(1)
        #expect(ids.takePending() == nil)
        #expect(ids.contains(ConnectionID([2, 2, 2, 2])!))
    }
}
