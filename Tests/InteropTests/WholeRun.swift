import Reactor
import Testing
import Transport
import Wire

/// From the receiver's coming to its going, with three objects on the flow between.
func wholeRun(_ broadcaster: Broadcaster, _ subscriber: Subscriber, on reactor: Reactor) throws {
    var count = 0
    subscriber.onEvent = { event in if case .object = event { count += 1 } }
    subscriber.start()
    func turn(until condition: () -> Bool) -> Bool {
        let end = Reactor.clock() + .seconds(30)
        while !condition(), Reactor.clock() < end { reactor.turn(timeout: .milliseconds(20)) }
        return condition()
    }
    #expect(turn { broadcaster.counts.members == 1 })
    for _ in 0..<3 { try broadcaster.publish([UInt8](repeating: 7, count: 5000)) }
    #expect(turn { count == 3 && broadcaster.isDelivered })
    subscriber.close()
    broadcaster.close()
    _ = turn { broadcaster.counts.receivers == 0 }
}
