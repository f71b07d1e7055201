import Flexicast
import QUIC
import Reactor
import Wire

// Whoever has not shown a token yet is nobody to the `FlowServer`: what happens on the connection waits until then, and what the
// receiver has sent stays with the connection, within its windows.
extension SourceEndpoint {
    /// A connection that has not shown its token.
    struct Gate {
        /// What happened meanwhile.
        var held: [ConnectionEvent] = []
        var token: [UInt8] = []
        var timer: TimerHandle?
    }

    /// Takes what happens on a connection that has to show its token. Whether it is to be taken by who serves it.
    func passes(_ event: ConnectionEvent, of id: ReceiverID, _ peer: ReceiverPeer) -> Bool {
        guard access != nil, connections[id.slot]?.gate != nil, let access else { return true }
        switch event {
        case .closed, .drained:
            connections[id.slot]?.gate?.timer = nil
            return true
        case .connected:
            connections[id.slot]?.gate?.timer = timer(after: Access.patience) { [unowned self, unowned peer] in
                refuse(id, peer, "the source asks for a token")
                peer.pump()
            }
        case .streamReadable(Access.stream):
            while let chunk = peer.connection.machine.read(Access.stream) {
                connections[id.slot]?.gate?.token += chunk.bytes
                let token = connections[id.slot]?.gate?.token ?? []
                guard token.count <= AccessToken.lengths.upperBound else {
                    refuse(id, peer, "the token is too long")
                    return false
                }
                guard chunk.isFinished else { continue }
                guard let holder = access.holder(of: token) else {
                    refuse(id, peer, "the source does not know the token")
                    return false
                }
                admit(holder, id, peer)
                return false
            }
            return false
        default: break
        }
        // Read it will be once, however often more has come.
        if case .streamReadable(let stream) = event,
            connections[id.slot]?.gate?.held.contains(where: { held in
                if case .streamReadable(stream) = held { true } else { false }
            }) == true
        {
            return false
        }
        connections[id.slot]?.gate?.held.append(event)
        if connections[id.slot]?.gate?.held.count ?? 0 > Access.heldEvents {
            refuse(id, peer, "too much comes before a token")
        }
        return false
    }

    private func admit(_ holder: AccessList.Holder, _ id: ReceiverID, _ peer: ReceiverPeer) {
        let held = connections[id.slot]?.gate?.held ?? []
        connections[id.slot]?.gate = nil
        connections[id.slot]?.holder = holder
        for event in held { serve(event, of: id, peer) }
    }

    private func refuse(_ id: ReceiverID, _ peer: ReceiverPeer, _ reason: String) {
        connections[id.slot]?.gate?.timer = nil
        deniedAccess += 1
        accessRefused(peer.connection.machine.remoteAddress, reason)
        peer.connection.machine.close(applicationCode: Access.refusal, reason: reason, at: time)
    }

    /// Holds from now on: who has a token that is not in it any more is let go. For a source that has asked for tokens all along.
    func use(_ access: AccessList) {
        self.access = access
        let known = Set(access.holders.map(\.digest))
        for (slot, connection) in connections.enumerated() {
            guard let connection, let holder = connection.holder else { continue }
            if known.contains(holder.digest) {
                connections[slot]?.holder = access.holders.first { $0.digest == holder.digest }
            } else {
                refuse(connection.id, connection.peer, "the token is not known any more")
                connection.peer.pump()
            }
        }
    }
}
