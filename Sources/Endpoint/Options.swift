import Flexicast
import Objects
import QUIC
import Reactor
import Wire

/// Which input/output backend the reactor takes.
public enum IOBackendChoice: String, CaseIterable, Sendable {
    /// io_uring where the kernel allows it, else epoll.
    case auto
    case ioUring = "io_uring"
    case epoll
}

/// What `flexicast source` was asked to do. Plain values: the command line and the tests both fill it in.
public struct SourceOptions: Sendable {
    /// An `http:` or `https:` URL, a `file:` URL, or a path.
    public var feed: String
    /// Time between two polls of the feed.
    public var pollInterval: Duration = .seconds(5)
    /// Where receivers connect. An unspecified address listens on every interface.
    public var listen: SocketAddress
    /// The flow's destination; nil runs without a flow, every receiver on unicast.
    public var group: SocketAddress?
    /// Receivers that the group does not reach are sent copies of the flow's packets; without a group all are.
    public var replicates = false
    /// How long a receiver is sent copies before it is tried on the group again; up to sixteen times as long when that was
    /// in vain before.
    public var groupRetry = Duration.seconds(600)
    /// Send the whole feed each time that it changes, instead of what has changed.
    public var wholeFeed = false
    /// Octets of a full packet of the flow: UDP payload.
    public var packetSize = 1200
    /// Octets of UDP payload that path MTU discovery tries on receivers' connections at the most.
    public var maxDatagramSize = Self.datagramSizeLimit
    /// The most that `maxDatagramSize` is of use for.
    public static let datagramSizeLimit = ConnectionConfiguration.datagramSizeLimit
    /// Name of the interface the flow leaves through; nil lets the routing table choose.
    public var interface: String?
    /// IPv4 TTL or IPv6 hop limit of the flow's packets, 1 to 255. Each router on the way takes one, and so does a relay.
    public var timeToLive: UInt8 = 16
    /// PEM files of the certificate chain and its key; nil makes a self-signed certificate for this run.
    public var certificate: CertificateFiles?
    /// Where to write the certificate as PEM, so that receivers can be told to trust it. It is complete before `listening` is reported.
    public var certificateOutput: String?
    /// The most the flow may send, in bits per second; nil leaves it to the members' reports.
    public var rate: UInt64?
    /// What the flow does not go below, in bits per second, or `rate` if that is less: who cannot take it is served on its
    /// connection.
    public var rateFloor: UInt64 = Self.usualFlow.rateFloor
    /// How many per cent of the members' addresses the flow's rate has to suit, 50 to 100.
    public var pacePercent = Self.usualFlow.pacePercent
    /// `rate` where it is nil.
    public static var usualRate: UInt64 { usualFlow.rateCeiling }
    private static let usualFlow = FlowConfiguration()
    /// The most that is handed to receivers' connections, in bits per second, shared fairly by address; nil sets no bound.
    public var unicastRate: UInt64?
    /// How long members may hold acknowledgements back; nil chooses by the number of members.
    public var acknowledgementDelay: Duration?
    /// Connections at once, of all receivers.
    public var connections = 20_000
    /// Connections at once from one IPv4 address or IPv6 /64; a /56 may have four times and a /48 sixteen times as many.
    public var connectionsPerAddress = 256
    /// How many recent items a receiver that connects is given first.
    public var history = 100
    /// What is kept for receivers that come back, or are slow.
    public var retention = Self.usualRetention
    /// A hundred thousand items and 64 MiB, however old.
    public static let usualRetention = Retention(objects: 100_000, octets: 64 << 20)
    /// Directory that remembers which items were seen across restarts; nil forgets.
    public var stateDirectory: String?
    /// Directory for one qlog file per connection.
    public var qlogDirectory: String?
    /// File that TLS secrets are appended to, in NSS key log format.
    public var keyLog: String?
    /// JSON lines on standard output instead of text.
    public var json = false
    /// Time between two reports of the byte counts.
    public var reportInterval: Duration = .seconds(1)
    public var io: IOBackendChoice = .auto
    /// Whether the flow's packets leave without a copy, which takes io_uring.
    public var zeroCopy = ZeroCopyMode.auto

    public init(feed: String, listen: SocketAddress) {
        self.feed = feed
        self.listen = listen
    }
}

/// PEM files.
public struct CertificateFiles: Sendable {
    public var certificate: String
    public var key: String

    public init(certificate: String, key: String) {
        self.certificate = certificate
        self.key = key
    }
}

/// Which certificates a receiver accepts.
public enum TrustChoice: Hashable, Sendable {
    /// The system's certification authorities.
    case system
    /// The certificates in this PEM file, and no others.
    case file(String)
    /// Any certificate: whoever answers is believed.
    case anyone
}

/// How items may reach a receiver.
public enum PathChoice: String, CaseIterable, Sendable {
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
public enum OutputChoice: Hashable, Sendable {
    case none
    /// One file per item, `<sha256 of atom:id>.xml`, and `feed.atom`.
    case directory(String)
    /// Each item's document, one after the other.
    case standardOutput
}

/// What `flexicast receive` was asked to do.
public struct ReceiverOptions: Sendable {
    /// Host name or address literal, without brackets: also what the source's certificate must name.
    public var host: String
    public var port: UInt16
    public var trust: TrustChoice = .system
    public var path: PathChoice = .auto
    public var output: OutputChoice = .none
    /// Stop with success after so many items; nil goes on.
    public var count: Int?
    /// Give up after so long: exit status 1 when no connection came about, 2 when `count` was asked for and not reached, else 0.
    public var timeout: Duration?
    /// Name of the interface the flow is joined on; nil lets the routing table choose.
    public var interface: String?
    /// Relay that carries the flow (AMT): for `auto` when the group is not heard, for `amt` from the start.
    public var relay: RelayChoice?
    /// Directory for one qlog file per connection.
    public var qlogDirectory: String?
    /// File that TLS secrets are appended to, in NSS key log format.
    public var keyLog: String?
    /// JSON lines on standard output instead of text.
    public var json = false
    public var io: IOBackendChoice = .auto

    public init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }
}

extension ReceiverOptions {
    var flowAccess: FlowAccess {
        FlowAccess(
            interface: interface, native: path != .amt, relay: path == .amt || path == .auto ? relay : nil)
    }
}
