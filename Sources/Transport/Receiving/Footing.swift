import Reactor
import Wire

/// What of this machine's network a receiver stands on.
struct Footing: Equatable {
    /// The interface that has the connection's own address; nil when none has it.
    var own: NetworkInterface?
    /// The interface that the flow is joined on, if the user has named one and it is there.
    var named: NetworkInterface?
    /// All addresses of the machine.
    var addresses: Set<IPAddress>

    init(local: IPAddress?, interface: String?) {
        let all = (try? NetworkInterface.all()) ?? []
        own = local.flatMap { local in all.first { $0.addresses.contains(local) } }
        named = interface.flatMap { name in all.first { $0.name == name } }
        addresses = Set(all.flatMap(\.addresses))
    }

    /// Whether a connection that stood on `self` has to be made anew on what there is now.
    func isLost(on now: Footing) -> Bool {
        own?.index != now.own?.index || named?.index != now.named?.index || named?.isUp != now.named?.isUp
            || named?.addresses != now.named?.addresses
    }
}
