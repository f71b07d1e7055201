import Wire

// Whose turn it is to be handed something, where that is bounded (`FlowServerConfiguration.unicastRate`).
extension FlowServer {
    /// Ends the receiver's turn, if it has one, and has it wait for the next.
    /// - Returns: octets that it may be handed, if its next turn comes at once.
    mutating func takeTurn(_ slot: Int, at now: Instant) -> Int? {
        guard unicast != nil else { return nil }
        if unicast!.allowance(slot) != nil {
            unicast!.endTurn(slot, isWanting: true)
        } else {
            unicast!.wait(slot, account: seats[slot].payer)
        }
        beginTurns(at: now, except: slot)
        return unicast!.allowance(slot)
    }

    /// The receiver has nothing to be handed now; the others go on.
    mutating func leaveTurns(_ slot: Int, at now: Instant) {
        guard unicast != nil else { return }
        unicast!.leave(slot)
        beginTurns(at: now)
    }

    /// Begins the turns that may begin now. Who has one is served like anybody who has something to send.
    /// - Parameter served: a receiver that is being served.
    mutating func beginTurns(at now: Instant, except served: Int? = nil) {
        guard unicast != nil else { return }
        while let slot = unicast!.beginTurn(at: now) {
            if slot != served { touch(slot) }
        }
    }
}
