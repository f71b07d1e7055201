import Wire

// The queue of what the shell is told. See `Connection.events` for what bounds it.
extension Connection {
    /// The next thing that the shell has to do or may want to know, in order; nil when there is none. To be taken after each batch of
    /// datagrams, and after `timerFired`.
    public mutating func nextEvent() -> ConnectionEvent? {
        if eventHead < events.count {
            defer { eventHead += 1 }
            switch events[eventHead] {
            case .datagram: waitingDatagrams -= 1
            case .newToken: waitingTokens -= 1
            default: break
            }
            return events[eventHead]
        }
        // What a handshake brings comes once; datagrams come again.
        if eventHead > 0 { events.removeAll(keepingCapacity: localParameters.maxDatagramFrameSize > 0) }
        eventHead = 0
        switch streams.nextEvent() {
        case .opened(let id): return .streamOpened(id)
        case .readable(let id): return .streamReadable(id)
        case .reset(let id, let code): return .streamReset(id, code: code)
        case .stopSending(let id, let code): return .streamStopped(id, code: code)
        case .sendCompleted(let id): return .streamSent(id)
        case .writable: return .writable
        case nil: return nil
        }
    }

    /// Says where the peer is now. It may move with each packet: only where it ended up is said.
    mutating func addressChanged(_ address: SocketAddress) {
        if eventHead < events.count, case .peerAddressChanged = events[events.count - 1] { events.removeLast() }
        events.append(.peerAddressChanged(address))
    }
}
