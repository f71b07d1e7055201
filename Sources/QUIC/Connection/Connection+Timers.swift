import Wire

extension Connection {
    /// When `timerFired` is to be called, or `transmit` tried again; `distantFuture` when nothing is due.
    public var nextDeadline: Instant {
        switch phase {
        case .closing(let closing): return closing.until
        case .draining(let until): return until
        case .drained: return .distantFuture
        case .active: break
        }
        var deadline = min(idleDeadline, min(path.deadline, keepAliveDeadline))
        if let due = recovery.deadline { deadline = min(deadline, due) }
        // Acknowledgements that may not be sent yet wait for the peer, not for a time.
        if !recovery.amplificationBlocked {
            for space in 0..<acks.count where levels[space] == .spoken {
                if let due = acks[space].deadline { deadline = min(deadline, due) }
            }
        }
        for flow in flowPaths { if let due = flow.acks.deadline { deadline = min(deadline, due) } }
        if wantsToSend, let due = recovery.pacerDeadline { deadline = min(deadline, due) }
        return deadline
    }

    /// Until when acknowledgements may be left to gather; nil unless packets wait for them or for the pacer.
    public func gatherDeadline(at now: Instant) -> Instant? {
        isActive && streams.wantsToSendStreams ? recovery.gatherDeadline(at: now) : nil
    }

    /// Time has come to `now`. Call `transmit` afterwards.
    public mutating func timerFired(at now: Instant) {
        guard isActive else {
            if !isDrained, now >= nextDeadline {
                phase = .drained
                events.append(.drained)
            }
            return
        }
        if now >= idleDeadline {
            end(.idleTimeout)
            return
        }
        if now >= keepAliveDeadline {
            // It may have been set while the peer was silent, which has answered since.
            scheduleKeepAlive()
            if now >= keepAliveDeadline {
                keepAliveDeadline = .distantFuture
                pingDue = true
            }
        }
        if let challenge = path.challenge, now >= challenge.deadline {
            // A proven address whose path does not answer a full datagram is left to loss detection.
            if path.isValidated { path.validate() } else { pathFailed(at: now) }
        }
        guard isActive, let due = recovery.deadline, now >= due else { return }
        lostFrames.removeAll(keepingCapacity: true)
        switch recovery.timerFired(at: now, lostFrames: &lostFrames) {
        case .none: break
        case .lost(let level):
            for frame in lostFrames { frameLost(frame, level) }
            noteLosses()
        case .probe(let level):
            probes[level.rawValue] = level == .application ? 2 : 1
            noteLosses()
            if level != .application {
                resendHandshake()
            } else {
                // What was sent last and lost alone is repaired by the probe itself, one round trip sooner than by its
                // acknowledgement.
                lostFrames.removeAll(keepingCapacity: true)
                recovery.reclaim(.application, packets: probes[level.rawValue], lostFrames: &lostFrames)
                for frame in lostFrames {
                    switch frame {
                    case .stream, .extensionFrame: frameLost(frame, level)
                    default: break
                    }
                }
            }
        }
    }

    /// Sends again what the handshake still waits for, Initial and Handshake packets in one datagram where both are due
    /// (RFC 9002 section 6.2.4).
    mutating func resendHandshake() {
        for space in 0..<ProtectionLevel.application.rawValue where levels[space] == .spoken {
            crypto[space].retransmitAll()
            if crypto[space].hasPending { probes[space] = max(probes[space], 1) }
        }
    }

    /// The new path did not answer: go back to the last one that did (RFC 9000 section 9.3.2).
    private mutating func pathFailed(at now: Instant) {
        guard let back = previousPath?.path else {
            end(.local(TransportError(.noViablePath, "no path to the peer answers")))
            return
        }
        path = back
        previousPath = nil
        recovery.amplificationBlocked = false
        recovery.resetForNewPath(at: now)
        addressChanged(path.remote)
    }

    /// RFC 9000 section 10.1: the smaller of both ends' values, and never under three PTO.
    mutating func restartIdleTimer(at now: Instant) {
        guard isHandshakeComplete, let idleTimeout else { return }
        // For every packet that comes: in 64 bits, not in a Duration's 128.
        idleDeadline = Instant(nanoseconds: now.nanoseconds + max(idleTimeout, recovery.probeTimeout * 3))
    }

    /// Nanoseconds, a century at the most.
    mutating func agreeOnIdleTimeout() {
        let both = [localParameters.maxIdleTimeout, peerParameters?.maxIdleTimeout ?? .zero]
        idleTimeout = both.filter { $0 > .zero }.min().map { min($0.nanoseconds, 3_200_000_000_000_000_000) }
    }

    mutating func noteAckElicitingSent(at now: Instant) {
        lastAckElicitingSent = now
        scheduleKeepAlive()
        // Only the first one since the peer was heard counts, or a dead peer would be kept alive by our own probes.
        guard !ackElicitingSinceReceive else { return }
        ackElicitingSinceReceive = true
        restartIdleTimer(at: now)
    }

    private mutating func scheduleKeepAlive() {
        guard let keepAlive = configuration.keepAlive, isHandshakeComplete else { return }
        // In time for a PING that is lost and sent again (RFC 9000 section 10.1.2).
        var wait = min(keepAlive, idleTimeout.map { .nanoseconds($0 / 3) } ?? keepAlive)
        if ackElicitingSinceReceive, let unanswered = configuration.unansweredKeepAlive { wait = min(wait, unanswered) }
        keepAliveDeadline = lastAckElicitingSent + wait
    }
}
