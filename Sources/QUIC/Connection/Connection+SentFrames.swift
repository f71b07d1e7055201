// What became of frames that were sent.
extension Connection {
    /// The peer has the frame.
    mutating func frameAcknowledged(_ frame: SentFrame, _ level: ProtectionLevel) {
        switch frame {
        case .ack(let space, let pathID, let largest):
            if space == 0 {
                acks[level.rawValue].acknowledgementAcknowledged(largest: largest)
            } else if let index = flowPaths.firstIndex(where: { $0.id == pathID }) {
                flowPaths[index].acks.acknowledgementAcknowledged(largest: largest)
            }
        case .crypto: crypto[level.rawValue].frameAcknowledged(frame)
        case .retireConnectionID: remoteIDs.retireFrameAcknowledged()
        case .extensionFrame(let key, let version): extensionFrames.acknowledged(key: key, version: version)
        case .mtuProbe(let packetNumber):
            mtu.probeAcknowledged(packetNumber)
            recovery.maxDatagramSize = mtu.current
        case .newConnectionID(let sequence): localIDs.frameAcknowledged(sequence)
        case .handshakeDone, .newToken, .pathResponse, .pathChallenge, .ping, .datagram: break
        default: streams.frameAcknowledged(frame)
        }
    }

    /// After losses: counts, and whether the path still carries large datagrams.
    mutating func noteLosses() {
        statistics.packetsLost = recovery.statistics.packetsLost
        if mtu.isBlackHole(largeLosses: recovery.largeLosses, timeouts: recovery.ptoCount) {
            recovery.maxDatagramSize = mtu.current
        }
    }

    /// The frame is lost: whatever still matters of it is sent again.
    mutating func frameLost(_ frame: SentFrame, _ level: ProtectionLevel) {
        switch frame {
        case .crypto: crypto[level.rawValue].frameLost(frame)
        case .newConnectionID(let sequence): localIDs.frameLost(sequence)
        case .retireConnectionID(let sequence): remoteIDs.retireFrameLost(sequence)
        // RFC 9000 section 13.3.
        case .handshakeDone: handshakeDoneDue = true
        case .extensionFrame(let key, let version): extensionFrames.lost(key: key, version: version)
        case .mtuProbe(let packetNumber): mtu.probeLost(packetNumber)
        // A token and a path's validation are only of use when new; datagrams are not repaired (RFC 9221 section 5.2).
        case .ack, .newToken, .pathResponse, .pathChallenge, .ping, .datagram: break
        default: streams.frameLost(frame)
        }
    }
}
