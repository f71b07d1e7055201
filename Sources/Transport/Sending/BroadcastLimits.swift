import Flexicast

/// What may be changed of a `Broadcaster` while it runs.
package struct BroadcastLimits: Sendable, Equatable {
    /// Connections at once, and those of one address among them: more that come from now on are refused.
    package var connections: Int
    package var connectionsPerAddress: Int
    /// Bits per second between which the flow goes; nil is the usual rate.
    package var rate: UInt64?
    package var rateFloor: UInt64
    /// Objects that a newcomer is given first.
    package var history: Int

    package init(connections: Int, connectionsPerAddress: Int, rate: UInt64?, rateFloor: UInt64, history: Int) {
        self.connections = connections
        self.connectionsPerAddress = connectionsPerAddress
        self.rate = rate
        self.rateFloor = rateFloor
        self.history = history
    }
}

extension Broadcaster {
    /// Holds from now on. Who is connected stays.
    package func use(_ limits: BroadcastLimits) {
        endpoint.listener.limits.connections = limits.connections
        endpoint.listener.limits.accounts.connections = limits.connectionsPerAddress
        endpoint.withServer { server in
            server.setHistory(limits.history)
            _ = server.withFlow { flow in
                flow.setRates(ceiling: limits.rate ?? FlowOptions.usualRate, floor: limits.rateFloor)
            }
        }
    }
}
