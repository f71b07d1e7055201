import Flexicast
import Objects
import QUIC
import Reactor
import Wire

// What a receiver's client asks for: groups to listen to, keys to open packets with, and what the application is told.

extension Receiver {
    package func drainClient() {
        while let action = peer.extension.nextAction() { perform(action) }
    }

    private func perform(_ action: consuming ClientAction) {
        switch consume action {
        case .open(let id, let source, let group, let ways): openFlow(id, source: source, group: group, ways: ways)
        case .close(let id): closeFlow(id)
        case .openTunnel(let id):
            flows[id]?.openTunnel()
            onEvent(.way(.amt))
        case .closeTunnel(let id):
            flows[id]?.closeTunnel()
            onEvent(.way(.multicast))
        case .installKey(let id, let key):
            flows[id]?.install(key)
            tls.logFlowSecret(key.secret, of: id, suite: key.suite)
        case .dropKey(let id, let generation): flows[id]?.drop(generation)
        case .listening(let id): if let flow = flows[id] { onEvent(.listening(group: flow.group)) }
        case .returned: onEvent(.returned)
        case .fellBack(_, let reason):
            log.info("back on unicast", metadata: ["reason": "\(reason)"])
            switch reason {
            case .sourceLeft: onEvent(.fellBack(.evicted))
            case .withdrawn: onEvent(.fellBack(.withdrawn))
            default: onEvent(.fellBack(.silence))
            }
        case .log(let message): onEvent(.log(message))
        case .joinRefused:
            log.warning(
                "the source does not let this receiver listen to the flow now; its log says why. Items come on unicast")
        case .joinUnanswered:
            log.warning("the source has not answered the request to listen to the flow. Items come on unicast")
        case .object(let object): onEvent(.object(object))
        case .part(let part): onEvent(.part(part))
        case .failed(let failure):
            log.warning(
                "an item will not be whole",
                metadata: [
                    "sequence": "\(failure.object)", "name": "\(failure.name ?? "")", "reason": "\(failure.reason)",
                ])
            onEvent(.failed(failure))
        case .gap(let gap): onEvent(.gap(gap))
        case .datagram(let octets, let origin):
            onEvent(.datagram(octets, via: origin == .flow ? .flow : .unicast))
        case .end: log.info("the source's log is at its end")
        }
    }

    private func openFlow(_ id: FlowID, source: IPAddress?, group: SocketAddress, ways: FlowWays) {
        closeFlow(id)
        do throws(ReactorError) {
            let flow = try FlowReception(
                id, source: source, group: group, ways: ways, access: access, reactor: reactor, log: log)
            flows[id] = flow
            if !group.address.isMulticast { replicated.append(flow) }
            flow.onHeard = { [unowned self] in peer.extension.heard(id, count: $0, at: reactor.now) }
            flow.onNative = { [unowned self] in peer.extension.nativeHeard(id, at: reactor.now) }
            flow.onRejected = { [unowned self] in peer.extension.rejected(id, at: reactor.now) }
            flow.onPackets = { [unowned self] run, datagrams, ecn in take(id, run, in: datagrams, ecn: ecn) }
            // An item that is whole is handed over before the next one takes memory of its own.
            flow.onMessageEnd = { [unowned self] in
                if peer.connection.machine.hasWholeStream { peer.handOutEvents() }
            }
            flow.onBatchEnd = { [unowned self] in peer.pumpSoon() }
        } catch {
            // The unicast path serves as well; the flow stays joined in name and is given up for silence.
            log.warning("cannot listen to the flow", metadata: ["group": "\(group)", "reason": "\(error)"])
        }
    }

    package func closeFlow(_ id: FlowID) {
        guard let flow = flows.removeValue(forKey: id) else { return }
        replicated.removeAll { $0 === flow }
        octetsOfClosedFlows += flow.octetsOpened
        octetsOfClosedTunnels += flow.octetsFromTunnel
        strangersOfClosedFlows += flow.strangers
        flow.close()
    }

    /// A datagram on the connection's socket that is of a replicated flow: what is announced with the receiver's own address
    /// is listened for there (draft section 5.1).
    package func takeCopy(_ datagram: inout MutableSpan<UInt8>, from: SocketAddress, ecn: ECN) -> Bool {
        guard !replicated.isEmpty, from == peer.connection.machine.remoteAddress else { return false }
        for flow in replicated where flow.owns(datagram.span) {
            return flow.receive(&datagram, packetSize: datagram.count, ecn: ecn)
        }
        return false
    }

    /// How many of the packets are new and can be used; nil: ask for each of them.
    private func take(_ id: FlowID, _ run: RunPlan, in datagrams: Span<UInt8>, ecn: ECN) -> Int? {
        let now = reactor.now
        let pathID: UInt64
        switch peer.extension.admit(id, run, at: now) {
        case .each: return nil
        case .refused: return 0
        case .path(let path): pathID = path
        }
        qlog?.flowPackets(run, of: id, pathID: pathID, isSent: false, in: datagrams, at: now)
        return peer.extension.received(
            id, pathID: pathID, run, in: datagrams, ecn: ecn, on: &peer.connection.machine, at: now)
    }
}
