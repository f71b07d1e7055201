import Cryptography
import Flexicast
import Logging
import Operation
import QUIC
import Wire

/// What a source tells its operator in the log. Who can cause a line at will has a budget for it.
package struct SourceLog {
    private let log: Logger
    /// Anybody can have a refusal logged.
    private var refusals = LogBudget(burst: 1)
    /// Or a JOIN that is refused.
    private var joins = LogBudget()
    /// Or that it comes and goes.
    private var arrivals = LogBudget()
    private var departures = LogBudget()

    package init(_ log: Logger) { self.log = log }

    package mutating func refused(_ address: SocketAddress, _ refusal: ConnectionRefusal, at now: Instant) {
        guard refusals.take(at: now) else { return }
        log.warning(
            "connection refused",
            metadata: [
                "address": "\(address)", "reason": "\(refusal.text)", "not_logged": "\(refusals.untold)",
            ])
    }

    package mutating func accessRefused(_ address: SocketAddress, _ reason: String, at now: Instant) {
        guard refusals.take(at: now) else { return }
        log.warning(
            "access refused",
            metadata: ["address": "\(address)", "reason": "\(reason)", "not_logged": "\(refusals.untold)"])
    }

    package mutating func gone(_ address: SocketAddress, _ reason: CloseReason, at now: Instant) {
        guard departures.take(at: now) else { return }
        log.info(
            "receiver gone",
            metadata: ["address": "\(address)", "reason": "\(reason)", "not_logged": "\(departures.untold)"])
    }

    package func notLogged(_ error: any Error) {
        log.error("a connection is not logged", metadata: ["reason": "\(error)"])
    }

    /// `connection`: that of the receiver which the notice is of, while it is there.
    package mutating func tell(
        _ notice: ServerNotice, of connection: SecureConnection?, holder: AccessList.Holder?, at now: Instant
    ) {
        let address: Logger.MetadataValue = "\(connection.map { "\($0.machine.remoteAddress)" } ?? "gone")"
        switch notice {
        case .connected(_, let speaksFlexicast):
            guard arrivals.take(at: now) else { return }
            var metadata: Logger.Metadata = [
                "address": address, "flexicast": "\(speaksFlexicast)",
                "resumed": "\(connection?.isResumed ?? false)", "not_logged": "\(arrivals.untold)",
            ]
            if let holder { metadata["token"] = "\(holder.name)" }
            log.info("receiver connected", metadata: metadata)
        case .listens(_, let members):
            log.info("receiver listens to the flow", metadata: ["address": address, "members": "\(members)"])
        case .notAdmitted(_, let reason):
            log.warning("receiver cannot listen to the flow", metadata: ["address": address, "reason": "\(reason)"])
        case .joinRefused:
            guard joins.take(at: now) else { return }
            log.info(
                "receiver has to wait before it may listen to the flow",
                metadata: ["address": address, "not_logged": "\(joins.untold)"])
        case .backOnUnicast(_, let reason):
            log.info("receiver is back on unicast", metadata: ["address": address, "reason": "\(reason)"])
        case .offeredCopies: log.info("receiver is offered copies of the flow", metadata: ["address": address])
        case .triedOnGroup: log.info("receiver is tried on the group again", metadata: ["address": address])
        case .stated(_, let answer, let first):
            log.info(
                "receiver has said where it is",
                metadata: ["address": address, "answer": "\(answer)", "first": "\(first)"])
        case .reported: break
        case .saidNothing:
            log.info("receiver said nothing of its position and gets what is new", metadata: ["address": address])
        case .told(_, let gap):
            log.warning(
                "receiver lacks what is not kept any more",
                metadata: ["address": address, "first": "\(gap.first)", "count": "\(gap.count)"])
        }
    }
}
