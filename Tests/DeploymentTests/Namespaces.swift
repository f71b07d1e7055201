import Foundation
import TestSupport
import Wire

// A network of namespaces around a bridge that floods, one place for each process.
//
// The network is closed: no place reaches the machine's own network, so addresses may be the same in every run.

/// Some places on one link. Number 0 is the source's by convention.
final class Namespaces {
    enum Family: String, CaseIterable, Sendable { case ipv4, ipv6 }

    let family: Family
    let group: SocketAddress
    static let interface = "eth0"
    private let hub: Place
    private let places: [Place]

    init(places count: Int, family: Family = .ipv4, group: String? = nil) throws {
        self.family = family
        let address = group ?? (family == .ipv4 ? "239.77.0.1" : "ff3e::4d00:1")
        guard let address = IPAddress(address) else { throw Failure(description: "\(address) is no address") }
        self.group = SocketAddress(address, port: 4477)
        hub = try Place()
        places = try (0..<count).map { _ in try Place() }

        var script = """
            link add br0 type bridge mcast_snooping 0 stp_state 0 forward_delay 0
            link set br0 up

            """
        for (index, place) in places.enumerated() {
            script += """
                link add port\(index) type veth peer name eth0 netns \(place.identifier)
                link set port\(index) master br0 up

                """
        }
        try hub.shell(["ip", "-batch", "-"], input: script)
        for index in places.indices {
            // One packet per segmented send on the cable, so that a loss is the loss of one packet.
            let flags = family == .ipv6 ? "nodad" : ""
            try places[index].shell(
                ["ip", "-batch", "-"],
                input: """
                    link set eth0 gso_max_segs 1
                    addr add \(self.address(index))/\(family == .ipv4 ? 16 : 64) dev eth0 \(flags)
                    link set eth0 up
                    \(family == .ipv4 ? "route add 224.0.0.0/4 dev eth0" : "")

                    """)
        }
    }

    func address(_ place: Int) -> IPAddress {
        switch family {
        case .ipv4: .v4(0x0a4d_0001 + UInt32(place))
        case .ipv6: .v6(0xfd4d << 112 + 1 + UInt128(place))
        }
    }

    /// The process whose namespace the place is.
    func identifier(_ place: Int) -> Int32 { places[place].identifier }

    /// Runs a tool at a place.
    @discardableResult
    func shell(at place: Int, _ command: [String], input: String = "") throws -> String {
        try places[place].shell(command, input: input)
    }

    /// `command` so that it runs at a place and dies with the thread that starts it.
    func command(_ command: [String], at place: Int) -> [String] { places[place].command(command) }

    // MARK: What goes wrong on the way

    /// Installs the filter of a place: of the flow's packets that arrive there, so many per cent are lost and counted.
    func filter(at place: Int, lossPercent: Int = 0) throws {
        let flow = "\(family == .ipv4 ? "ip" : "ip6") daddr \(group.address) udp dport \(group.port)"
        let loss = lossPercent > 0 ? "\(flow) numgen random mod 100 < \(lossPercent) counter name lost drop;" : ""
        try shell(
            at: place, ["nft", "-f", "-"],
            input: """
                table inet deployment {
                  counter lost {}
                  chain cut { }
                  chain loss { \(loss) }
                  chain input { type filter hook prerouting priority raw; jump cut; jump loss; }
                }

                """)
    }

    /// Takes a place's interface away and makes another one of its name and address.
    func replaceInterface(at place: Int) throws {
        try shell(at: place, ["ip", "link", "del", "eth0"])
        try hub.shell(
            ["ip", "-batch", "-"],
            input: """
                link add port\(place) type veth peer name eth0 netns \(places[place].identifier)
                link set port\(place) master br0 up

                """)
        try shell(
            at: place, ["ip", "-batch", "-"],
            input: """
                addr add \(address(place))/\(family == .ipv4 ? 16 : 64) dev eth0 \(family == .ipv6 ? "nodad" : "")
                link set eth0 up
                \(family == .ipv4 ? "route add 224.0.0.0/4 dev eth0" : "")

                """)
    }

    /// Stops the group at a place that has a filter, or lets it through again.
    func setCut(_ isCut: Bool, at place: Int) throws {
        let match = "\(family == .ipv4 ? "ip" : "ip6") daddr \(group.address)"
        let rule = isCut ? "add rule inet deployment cut \(match) drop" : "flush chain inet deployment cut"
        try shell(at: place, ["nft", "-f", "-"], input: rule + "\n")
    }

    /// How many packets the filter of a place has lost.
    func packetsLost(at place: Int) throws -> Int { try places[place].counted("lost", in: "deployment") }
}
