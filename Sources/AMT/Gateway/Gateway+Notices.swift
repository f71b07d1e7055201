import Wire

// What the network says of the relay, and how far it is believed.
extension Gateway {
    /// Handles an ICMP error about a datagram of ours. It may be forged (RFC 5927): it has to be about something that is
    /// still to be answered and to quote its nonce, or to come again for the next message when the router quotes none;
    /// and a relay that was joined gets a moment to answer.
    public mutating func noticeReceived(_ notice: GatewayNotice, at now: Instant) {
        let sent: (to: SocketAddress?, type: UInt8, nonce: UInt32?) =
            switch pending {
            case .discovery(let nonce): (discovery, 1, nonce)
            case .request(let nonce): (relay, 3, nonce)
            case .nothing: (relay, 5, grant?.nonce)
            }
        guard let nonce = sent.nonce, notice.destination == sent.to || (isJoined && notice.destination == relay) else {
            counters.noticesIgnored += 1
            return
        }
        let isProven = notice.quotedNonce.map { $0.nonce == nonce && $0.type == sent.type }
        // Updates and Teardowns go on while a Request waits.
        let isOfGrant = notice.quotedNonce?.nonce == grant?.nonce && (notice.quotedNonce?.type ?? 0) >= 5
        guard isProven ?? true || isOfGrant else {
            counters.noticesIgnored += 1
            return
        }
        counters.notices += 1
        guard notice.kind != .tooLarge else {
            counters.tooLarge += 1
            return
        }
        if isJoined { return doubt(at: now) }
        if isProven == nil {
            if !isSuspected { suspicions += 1 }
            isSuspected = true
            guard suspicions >= 2 else { return }
        }
        giveUp(notice, at: now)
    }

    /// The relay answers.
    mutating func trust() {
        doubtedUntil = .distantFuture
        suspicions = 0
    }

    private mutating func doubt(at now: Instant) {
        guard doubtedUntil == .distantFuture, now >= nextDoubtAt else { return }
        nextDoubtAt = now + configuration.graceInterval
        doubtedUntil = now + configuration.grace
        if case .nothing = pending { request(at: now) }
        // Once more within the grace: one message may be lost.
        retryAt = min(retryAt, now + configuration.grace / 2)
    }

    /// There is no relay where we ask. A shell that knows others goes over to one of them.
    mutating func giveUp(_ notice: GatewayNotice, at now: Instant) {
        counters.unreachable += 1
        suspicions = 0
        doubtedUntil = .distantFuture
        isJoined = false
        grant = nil
        repeats = []
        (refreshAt, silentAt) = (.distantFuture, .distantFuture)
        events.append(notice.kind == .full ? .limited : .unreachable(notice.destination))
        guard configuration.discovers, case .request = pending else { return }
        // The discovery address may lead to another relay; if it leads to the same one, not without a pause.
        attempts = failures
        failures += 1
        if attempts == 0 {
            discover(at: now)
        } else {
            pending = .discovery(nonce: nonce())
            waitForRetry(at: now)
        }
    }
}
