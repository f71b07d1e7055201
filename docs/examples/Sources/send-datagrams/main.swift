// Sends datagrams to everybody who is there: send-datagrams ADDRESS:PORT GROUP:PORT INTERFACE RECEIVERS COUNT
//
// Waits until so many receivers have connected, sends a datagram each ten milliseconds, and ends when all receivers have gone.
// ADDRESS:PORT is where they connect; the certificate that they are to trust is written to standard output.
import Foundation
import Logging
import Reactor
import Transport
import Wire

func complain(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

/// A clock's ticks. All of it happens on the reactor's thread.
final class Ticker {
    private let receivers: Int
    private let count: Int
    private let reactor: Reactor
    private let broadcaster: Broadcaster
    private var sent = 0
    private var timer: TimerHandle?

    init(receivers: Int, count: Int, _ options: Broadcaster.Options, on reactor: Reactor) throws {
        self.receivers = receivers
        self.count = count
        self.reactor = reactor
        broadcaster = try Broadcaster(options, on: reactor, log: Logger(label: "send-datagrams"))
        timer = reactor.timer(at: reactor.now) { [unowned self] in tick() }
        print(broadcaster.certificatePEM)
        fflush(nil)
    }

    private func tick() {
        timer?.schedule(at: reactor.now + .milliseconds(10))
        let present = broadcaster.counts.receivers
        if sent > 0 || present >= receivers, sent < count {
            do {
                try broadcaster.sendDatagram(Array("\(sent)".utf8))
                sent += 1
            } catch {
                complain("\(error)")
                reactor.stop()
            }
        }
        if sent == count, present == 0 { reactor.stop() }
    }

    func close() {
        let counts = broadcaster.counts
        complain("\(sent) datagrams, of them \(counts.datagramsOnFlow) on the flow; \(counts.datagramsDropped) dropped")
        broadcaster.close()
    }
}

let arguments = CommandLine.arguments
guard arguments.count == 6, let listen = SocketAddress(arguments[1]), let group = SocketAddress(arguments[2]),
    let receivers = Int(arguments[4]), let count = Int(arguments[5]), count > 0
else {
    complain("usage: send-datagrams ADDRESS:PORT GROUP:PORT INTERFACE RECEIVERS COUNT")
    exit(64)
}
var options = Broadcaster.Options(listen: listen)
options.flow.group = group
options.flow.interface = arguments[3]
options.names = ["localhost", "\(listen.address)"]
let reactor = try Reactor()
let ticker = try Ticker(receivers: receivers, count: count, options, on: reactor)
reactor.run()
ticker.close()
