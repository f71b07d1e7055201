import Wire

// The handshake, driven by TLS: keys, CRYPTO octets and transport parameters come from there, and what a client may be
// answered with in place of it.
extension Connection {
    /// Keys to open packets of `level` are installed. What still waits of the levels before, TLS will not take any more
    /// (RFC 9001 section 4.1.3).
    public mutating func readKeysInstalled(_ level: ProtectionLevel, at now: Instant) {
        for earlier in 0..<level.rawValue where crypto[earlier].hasUnread {
            close(TransportError(.protocolViolation, "handshake data of an earlier level is left over"), at: now)
            return
        }
    }
    /// Keys to seal packets of `level` are installed.
    public mutating func writeKeysInstalled(_ level: ProtectionLevel) {
        if levels[level.rawValue] == .awaited { levels[level.rawValue] = .spoken }
        if level == .handshake { recovery.hasHandshakeKeys = true }
    }

    /// TLS wants these octets sent in CRYPTO frames.
    public mutating func queueHandshakeBytes(_ bytes: [UInt8], at level: ProtectionLevel) {
        crypto[level.rawValue].append(bytes)
    }

    /// The peer's transport parameters, as TLS authenticated or will authenticate them. A violation closes the connection.
    public mutating func peerParametersReceived(_ octets: [UInt8], at now: Instant) {
        do throws(TransportError) {
            let peer = try TransportParameters(octets, from: role.peer)
            try checkConnectionIDs(peer)
            try checkMultipath(peer)
            apply(peer)
        } catch { close(error, at: now) }
    }

    /// RFC 9000 section 7.3.
    private func checkConnectionIDs(_ peer: TransportParameters) throws(TransportError) {
        func refuse(_ what: String) -> TransportError {
            TransportError(.transportParameterError, "\(what) does not match the connection IDs seen on the wire")
        }
        guard peer.initialSourceConnectionID == remoteIDs.active.first(where: { $0.sequence == 0 })?.id else {
            throw refuse("initial_source_connection_id")
        }
        guard role == .client else { return }
        guard peer.originalDestinationConnectionID == originalDestination else {
            throw refuse("original_destination_connection_id")
        }
        guard peer.retrySourceConnectionID == retrySource else { throw refuse("retry_source_connection_id") }
    }

    /// Paths are told apart by connection IDs, so that both ends need some (draft-ietf-quic-multipath-21 section 2.1).
    private func checkMultipath(_ peer: TransportParameters) throws(TransportError) {
        guard peer.initialMaxPathID != nil, configuration.parameters.initialMaxPathID != nil else { return }
        guard localIDs.first.count > 0, remoteIDs.current.count > 0 else {
            throw TransportError(.protocolViolation, "initial_max_path_id beside a connection ID of no length")
        }
    }

    private mutating func apply(_ peer: TransportParameters) {
        peerParameters = peer
        recovery.peerMaxAckDelay = peer.maxAckDelay
        agreeOnIdleTimeout()
        mtu.ceiling = largestDatagram
        localIDs.peerLimit = Int(min(peer.activeConnectionIDLimit, 64))
        if let token = peer.statelessResetToken { remoteIDs.setFirstToken(token) }
        // Frames that RFC 9000 does not have come from both ends or from none (RFC 9000 section 19.21,
        // draft-ietf-quic-multipath-21 section 2). Without multipath the extension's parameter is ignored
        // (draft-navarre-quic-flexicast-02 section 4).
        isMultipathNegotiated = peer.initialMaxPathID != nil && localParameters.initialMaxPathID != nil
        if let id = configuration.extensionParameter {
            isExtensionNegotiated =
                isMultipathNegotiated && peer.others[id] != nil && localParameters.others[id] != nil
        }
        streams.sharedStreamSpace = isExtensionNegotiated
        streams.peerParameters(StreamLimits(peer))
    }

    /// TLS has finished on this side.
    public mutating func handshakeCompleted(at now: Instant) {
        // What TLS authenticated may just have been refused: then this connection never was.
        guard isActive, !isHandshakeComplete else { return }
        handshake = .complete
        idleDeadline = .distantFuture
        events.append(.connected)
        if localIDs.first.count > 0, localIDs.wanted > 0 { events.append(.connectionIDsWanted(localIDs.wanted)) }
        if role == .server {
            // RFC 9000 section 19.20.
            handshakeDoneDue = true
            confirm(at: now)
        }
        restartIdleTimer(at: now)
    }

    mutating func confirm(at now: Instant) {
        guard handshake == .complete else { return }
        handshake = .confirmed
        recovery.handshakeConfirmed = true
        discard(.handshake)
        events.append(.confirmed)
    }

    /// Initial keys go when Handshake packets are spoken, those when the handshake is confirmed (RFC 9001 sections 4.9.1 and
    /// 4.9.2).
    mutating func discard(_ level: ProtectionLevel) {
        guard levels[level.rawValue] != .discarded else { return }
        levels[level.rawValue] = .discarded
        probes[level.rawValue] = 0
        recovery.discard(level)
        crypto[level.rawValue] = CryptoStream()
        events.append(.discardKeys(level))
    }

    /// A Retry whose integrity tag was verified (RFC 9000 section 17.2.5). False: it must be ignored, as there was a packet
    /// before it or it has no token (RFC 9000 section 17.2.5.2). The server's new ID and the token go into the next Initial
    /// packets, which say the same as the first (RFC 9000 sections 17.2.5.1 and 17.2.5.3).
    public mutating func retryReceived(source: ConnectionID, token: [UInt8], at now: Instant) -> Bool {
        guard role == .client, retrySource == nil, !remoteIDConfirmed, !token.isEmpty, source != remoteIDs.current
        else { return false }
        retrySource = source
        // It is of use to this connection alone (RFC 9000 section 8.1.3).
        initialToken = token
        remoteIDs.replaceFirst(source)
        recovery.retryReceived()
        crypto[0].retransmitAll()
        return true
    }

    /// A Version Negotiation packet with `versions` (RFC 9000 section 6.2).
    public mutating func versionNegotiationReceived(_ versions: [UInt32], at now: Instant) {
        guard role == .client, !remoteIDConfirmed, retrySource == nil, isActive,
            !versions.contains(PacketHeader.version1)
        else { return }
        end(.versionNegotiation(versions))
    }
}
