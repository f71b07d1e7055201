import Flexicast
import Objects
import QUIC
import Transport
import Reactor
import System
import Wire

/// What `flexicast source` was asked to do. Plain values: the command line and the tests both fill it in.
package struct SourceOptions: Sendable {
    /// `http:` or `https:` URLs, `file:` URLs, or paths, each once.
    package var feeds: [String]
    /// The log that is followed instead of feeds; nil: feeds are polled.
    package var distributedLog: LogPlace?
    /// Time between two polls of a feed.
    package var pollInterval: Duration = .seconds(5)
    /// A feed that is not well-formed is refused, instead of what is good in it being read.
    package var strict = false
    /// Where receivers connect. An unspecified address listens on every interface.
    package var listen: SocketAddress
    /// The flow, if there is one.
    package var flow = FlowOptions()
    /// How long a receiver is sent copies before it is tried on the group again; up to sixteen times as long when that was
    /// in vain before.
    package var groupRetry = Duration.seconds(600)
    /// Send the whole feed each time that it changes, instead of what has changed.
    package var wholeFeed = false
    /// Octets of UDP payload that path MTU discovery tries on receivers' connections at the most.
    package var maxDatagramSize = Self.datagramSizeLimit
    /// The most that `maxDatagramSize` is of use for.
    package static let datagramSizeLimit = ConnectionConfiguration.datagramSizeLimit
    /// PEM files of the certificate chain and its key; nil makes a self-signed certificate for this run.
    package var certificate: CertificateFiles?
    /// Where to write the certificate as PEM, so that receivers can be told to trust it. It is complete before `listening` is reported.
    package var certificateOutput: String?
    /// The most that is handed to receivers' connections, in bits per second, shared fairly by address; nil sets no bound.
    package var unicastRate: UInt64?
    /// Connections at once, of all receivers.
    package var connections = 20_000
    /// Connections at once from one IPv4 address or IPv6 /64; a /56 may have four times and a /48 sixteen times as many.
    package var connectionsPerAddress = 256
    /// How many recent items a receiver that connects is given first.
    package var history = 100
    /// What is kept for receivers that come back, or are slow.
    package var retention = Self.usualRetention
    /// A hundred thousand items and 64 MiB, however old.
    package static let usualRetention = Retention(objects: 100_000, octets: 64 << 20)
    /// Octets of items that memory holds where there is a state directory: older ones are read from there.
    package static let heldOctets = 64 << 20
    /// File of tokens, one of which a receiver has to show; nil serves everybody.
    package var access: String?
    /// Directory that remembers which items were seen across restarts; nil forgets.
    package var stateDirectory: String?
    /// Directory for one qlog file per connection.
    package var qlogDirectory: String?
    /// File that TLS secrets are appended to, in NSS key log format.
    package var keyLog: String?
    /// JSON lines on standard output instead of text.
    package var json = false
    /// Where to serve `/metrics`, `/receivers` and `/health`; nil serves nothing.
    package var metrics: ListeningPlace?
    /// How long after SIGTERM receivers may take to get what was published.
    package var drain = Duration.seconds(5)
    /// Time between two reports of the byte counts.
    package var reportInterval: Duration = .seconds(1)
    package var io: IOBackendChoice = .auto

    package init(feeds: [String], listen: SocketAddress) {
        self.feeds = feeds
        self.listen = listen
    }
}
