// Prints datagrams as they come, a line each: receive-datagrams HOST:PORT CERTIFICATE INTERFACE LAST [unicast]
//
// Ends with the datagram that says LAST. CERTIFICATE is what send-datagrams printed. With `unicast` the flow is left alone, as by
// a receiver that multicast does not reach. Datagrams may be lost: that is what they are for.
import Foundation
import Logging
import Reactor
import Transport

func complain(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

/// All of it happens on the reactor's thread.
final class Listener {
    private let last: String
    private let reactor: Reactor
    private let subscriber: Subscriber
    private(set) var counts = (flow: 0, connection: 0)

    init(until last: String, _ options: Subscriber.Options, on reactor: Reactor) throws {
        self.last = last
        self.reactor = reactor
        subscriber = try Subscriber(options, on: reactor, log: Logger(label: "receive-datagrams"))
        subscriber.onEvent = { [unowned self] event in
            if case .datagram(let octets, let via) = event { take(octets, via) }
        }
        subscriber.start()
    }

    private func take(_ octets: ArraySlice<UInt8>, _ via: Via) {
        if via == .flow { counts.flow += 1 } else { counts.connection += 1 }
        let text = String(decoding: octets, as: UTF8.self)
        print(text)
        if text == last { reactor.stop() }
    }

    func close() { subscriber.close() }
}

let arguments = CommandLine.arguments
guard arguments.count >= 5, let colon = arguments[1].lastIndex(of: ":"),
    let port = UInt16(arguments[1][arguments[1].index(after: colon)...])
else {
    complain("usage: receive-datagrams HOST:PORT CERTIFICATE INTERFACE LAST [unicast]")
    exit(64)
}
var options = Subscriber.Options(host: String(arguments[1][..<colon]), port: port)
options.trust = .file(arguments[2])
options.interface = arguments[3]
options.usesFlow = arguments.last != "unicast"
let reactor = try Reactor()
let listener = try Listener(until: arguments[4], options, on: reactor)
reactor.run()
listener.close()
complain("\(listener.counts.flow) datagrams came on the flow, \(listener.counts.connection) on the connection")
