import Transport
import Reactor
import Wire

/// How items may reach a receiver.
package enum PathChoice: String, CaseIterable, Sendable {
    /// The flow when it is heard, else the unicast path.
    case auto
    /// As `auto`, but a flow that was never heard when the time is up counts as a failure.
    case multicast
    /// As `multicast`, through a tunnel to a relay.
    case amt
    /// Flexicast is not negotiated at all.
    case unicast
}

/// Where a receiver puts the items.
package enum OutputChoice: Hashable, Sendable {
    case none
    /// One file per item, `<sha256 of atom:id>.xml`, and `feed.atom`.
    case directory(String)
    /// Each item's document, one after the other.
    case standardOutput
}

/// What `flexicast receive` was asked to do.
package struct ReceiverOptions: Sendable {
    /// Host name or address literal, without brackets: also what the source's certificate must name.
    package var host: String
    package var port: UInt16
    /// Other sources of the same log.
    package var others: [Subscriber.Source] = []
    package var trust: TrustChoice = .system
    /// File of the token that is shown to a source that asks for one.
    package var tokenFile: String?
    package var path: PathChoice = .auto
    package var output: OutputChoice = .none
    /// Names of feeds whose items are taken; empty: all.
    package var only: [String] = []
    /// Stop with success after so many items; nil goes on.
    package var count: Int?
    /// Give up after so long: exit status 1 when no connection came about, 2 when `count` was asked for and not reached, else 0.
    package var timeout: Duration?
    /// Name of the interface the flow is joined on; nil lets the routing table choose.
    package var interface: String?
    /// Relay that carries the flow (AMT): for `auto` when the group is not heard, for `amt` from the start.
    package var relay: RelayChoice?
    /// Where `/metrics` and `/health` are served over HTTP; nil: nowhere.
    package var metrics: ListeningPlace?
    /// Between two `interval` events; nil: there are none.
    package var interval: Duration?
    /// Tell the source of path, loss and latency, every ten seconds.
    package var reports = false
    /// Directory for one qlog file per connection.
    package var qlogDirectory: String?
    /// File that TLS secrets are appended to, in NSS key log format.
    package var keyLog: String?
    /// JSON lines on standard output instead of text.
    package var json = false
    package var io: IOBackendChoice = .auto

    package init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }
}

extension ReceiverOptions {
    /// How the names of wanted objects begin; empty: all are wanted.
    var prefixes: [String] { only.map { $0 + "/" } }

    var subscription: Subscriber.Options {
        var subscription = Subscriber.Options(host: host, port: port)
        subscription.others = others
        subscription.trust = trust
        subscription.usesFlow = path != .unicast
        subscription.interface = interface
        subscription.joinsGroup = path != .amt
        subscription.relay = path == .amt || path == .auto ? relay : nil
        subscription.qlogDirectory = qlogDirectory
        subscription.keyLog = keyLog
        subscription.reports = reports
        subscription.prefixes = prefixes
        return subscription
    }
}
