import Cryptography
import Flexicast
import Operation
import QUIC
import Reactor
import Wire

/// The flow of a source and its way out; nil for a source that has none.
package func makeFlow(
    _ options: FlowOptions, listen: UDPSocket, firstStream: UInt64 = 0, reactor: Reactor
) throws -> (flow: FlowSource?, sender: FlowSender?) {
    guard options.group != nil || options.replicates else { return (nil, nil) }
    // Without a group nobody is told of these addresses: each receiver hears of its own.
    let unused = listen.localAddress.address
    var parameters = FlowParameters(source: unused, group: unused, port: 0, ackDelay: .milliseconds(25))
    if let group = options.group {
        guard group.address.isMulticast else {
            throw EndpointError(
                "\(group.address) is no multicast group: take one of 232.0.0.0/8, 239.0.0.0/8 or ff3e::/32")
        }
        parameters = FlowParameters(
            source: try origin(options, listen: listen.localAddress, group: group), group: group.address,
            port: group.port,
            ackDelay: parameters.ackDelay)
    }
    var configuration = FlowConfiguration()
    configuration.packetSize = options.packetSize
    if let rate = options.rate { configuration.rateCeiling = rate }
    configuration.rateFloor = min(options.rateFloor, configuration.rateCeiling)
    configuration.pacePercent = options.pacePercent
    configuration.rotatesKeyAfterLeave = options.rotatesKeyAfterLeave
    if let delay = options.acknowledgementDelay { configuration.ackDelay = .fixed(delay) }
    var random = randomSeed()
    // Every packet carries it, and who shares a group and port with another source is told apart by it.
    guard let id = FlowID(random.octets(4)) else { preconditionFailure("four octets make an ID") }
    let flow = FlowSource(
        flowID: id, parameters: parameters, configuration: configuration, firstStream: firstStream,
        seed: SeededRandom(from: &random), at: reactor.now)
    let size = configuration.packetSize
    guard let group = options.group else {
        return (flow, FlowSender(packetSize: size, copySocket: listen, reactor: reactor))
    }
    var udp = UDPOptions()
    udp.multicastInterface = options.interface
    udp.multicastTTL = options.timeToLive
    // Receivers on this machine hear it too. Without one the kernel makes no copy.
    udp.multicastLoop = true
    // A Linux multicast router drops segmented sends that have DF set and reach it whole.
    udp.dontFragment = false
    udp.zeroCopy = options.zeroCopy
    let socket = try reactor.udpSocket(bind: SocketAddress(parameters.source, port: 0), options: udp)
    let sender = FlowSender(
        group: group, packetSize: size, socket: socket, copySocket: options.replicates ? listen : nil,
        reactor: reactor)
    return (flow, sender)
}

/// The address that the flow's packets come from: receivers join it together with the group.
private func origin(_ options: FlowOptions, listen: SocketAddress, group: SocketAddress) throws -> IPAddress {
    let isIPv4 = group.address.isIPv4
    if let name = options.interface { _ = try NetworkInterface.index(of: name) }
    if !listen.address.isUnspecified, listen.address.isIPv4 == isIPv4 { return listen.address }
    let interfaces = try NetworkInterface.all().filter { interface in
        options.interface.map { $0 == interface.name } ?? (interface.isUp && !interface.isLoopback)
    }
    let isLinkLocal = { (address: IPAddress) in
        if case .v6(let bits) = address { bits >> 118 == 0x3fa } else { false }
    }
    // Of several networks it is the routing table that tells which is meant, not the order of the interfaces.
    if options.interface == nil, let address = NetworkInterface.address(toward: group.address), !address.isLoopback,
        !isLinkLocal(address)
    {
        return address
    }
    for interface in interfaces where interface.supportsMulticast || options.interface != nil {
        let addresses = interface.addresses.filter { $0.isIPv4 == isIPv4 }
        if let address = addresses.first(where: { !isLinkLocal($0) }) ?? addresses.first { return address }
    }
    let family = isIPv4 ? "IPv4" : "IPv6"
    throw EndpointError(
        options.interface.map { "interface \($0) has no \(family) address to send the flow from" }
            ?? "no interface has an \(family) address to send the flow from: name one with --interface")
}
