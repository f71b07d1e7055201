import Wire

/// How a receiver is to get items, as `flexicast receive --path` has it.
package enum ReceiverPath: String, CaseIterable, Codable, Sendable {
    case auto, multicast, amt, unicast
}

/// A campaign: which machines do what, what is sent, and what goes wrong on purpose.
package struct Plan: Equatable, Sendable {
    /// A machine.
    package struct Host: Equatable, Sendable {
        package var name: String
        /// What ssh is given, such as `root@lab1.example.org`; nil is this machine, without ssh.
        package var destination: String?
        package var port: Int?
        package var identity: String?
        /// Each is given to ssh with `-o`.
        package var options: [String] = []
        /// The program's path on the machine, or its name on the PATH there.
        package var program = "flexicast"
        /// A container image that has the program, to be run by podman or docker; nil runs it as it is.
        package var image: String?
        package var line = 0
    }

    /// Who sends.
    package struct Source: Equatable, Sendable {
        package var host: String
        package var listen: SocketAddress
        /// Where receivers connect to.
        package var address: SocketAddress
        package var group: SocketAddress?
        package var interface: String?
        package var options: [String] = []
    }

    /// Who carries the flow where multicast does not.
    package struct Relay: Equatable, Sendable {
        package var host: String
        package var listen: SocketAddress
        /// Where receivers find it.
        package var address: SocketAddress
        package var upstream: String?
        package var options: [String] = []
    }

    /// Who takes items.
    package struct Receiver: Equatable, Sendable {
        package var name: String
        package var host: String
        package var path: ReceiverPath
        package var interface: String?
        package var options: [String] = []
    }

    /// What is sent.
    package enum Content: Equatable, Sendable {
        /// The sample feed grows by so many items. `size`: octets of each item's text; nil is as on a busy mailing list.
        case samples(items: Int, interval: Duration, size: Int?)
        /// A feed that the source polls: a URL, or a file of this machine that is copied to the source.
        case feed(String)
    }

    /// Something that goes wrong on purpose.
    package struct Fault: Equatable, Sendable {
        package enum Kind: Equatable, Sendable {
            /// The flow does not reach this host any more, by the group or by a relay.
            case cut(host: String)
            /// This role's process is killed, and has no time to say so.
            case kill(role: String)
            /// This role's process is asked to end.
            case stop(role: String)
        }

        package var kind: Kind
        /// Since the sending began.
        package var at: Duration
        /// After so long it is undone: the flow passes again, the role is started anew. Nil leaves it.
        package var lasting: Duration?
    }

    package var name: String
    /// The longest time that is sent for.
    package var duration: Duration
    /// How long what was sent last may take to arrive everywhere.
    package var settle: Duration
    package var hosts: [Host]
    package var source: Source
    package var relay: Relay?
    package var receivers: [Receiver]
    package var content: Content
    package var faults: [Fault]
    /// The file.
    package var text: String

    package static let sourceName = "source"
    package static let relayName = "relay"

    /// The most receivers, and hosts, of a plan.
    package static let mostReceivers = 2000
    /// The longest plan, in octets.
    package static let longestFile = 1 << 20
    /// The longest feed file that is copied to the source, in octets.
    package static let longestFeed = 4 << 20
}

extension Plan.Fault {
    /// What the report calls it.
    package var title: String {
        switch kind {
        case .cut(let host): "\(host): multicast is cut"
        case .kill(let role): "\(role) is killed"
        case .stop(let role): "\(role) is stopped"
        }
    }

    /// What the report calls its end.
    package var endTitle: String {
        switch kind {
        case .cut(let host): "\(host): multicast is back"
        case .kill(let role), .stop(let role): "\(role) is started anew"
        }
    }
}
