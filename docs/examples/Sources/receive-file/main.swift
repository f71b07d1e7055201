// Receives the next file whole: receive-file HOST:PORT CERTIFICATE INTERFACE FILE [unicast]
//
// CERTIFICATE is what send-file printed. With `unicast` the flow is left alone, as by a receiver that multicast does not reach.
import Foundation
import Logging
import Objects
import Reactor
import Transport

func complain(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

/// A file as it comes. All of it happens on the reactor's thread.
final class FileReceiver {
    private let file: FileHandle
    private let reactor: Reactor
    private let subscriber: Subscriber
    private(set) var isWhole = false
    private(set) var octets = (flow: 0, others: 0)

    init(into file: FileHandle, _ options: Subscriber.Options, on reactor: Reactor) throws {
        self.file = file
        self.reactor = reactor
        subscriber = try Subscriber(options, on: reactor, log: Logger(label: "receive-file"))
        subscriber.onEvent = { [unowned self] event in take(event) }
        subscriber.start()
    }

    private func take(_ event: Subscriber.Event) {
        switch event {
        case .opened(let header): print("\(header.name) comes")
        case .data(_, let bytes, let via):
            if via == .flow { octets.flow += bytes.count } else { octets.others += bytes.count }
            do {
                try file.write(contentsOf: bytes)
            } catch {
                complain("cannot write: \(error)")
                reactor.stop()
            }
        case .finished:
            isWhole = true
            reactor.stop()
        case .reset(let failure):
            complain("the file will not be whole: \(failure.reason)")
            reactor.stop()
        default: break
        }
    }

    func close() { subscriber.close() }
}

let arguments = CommandLine.arguments
guard arguments.count >= 5, let colon = arguments[1].lastIndex(of: ":"),
    let port = UInt16(arguments[1][arguments[1].index(after: colon)...])
else {
    complain("usage: receive-file HOST:PORT CERTIFICATE INTERFACE FILE [unicast]")
    exit(64)
}
guard FileManager.default.createFile(atPath: arguments[4], contents: nil),
    let file = FileHandle(forWritingAtPath: arguments[4])
else {
    complain("cannot write \(arguments[4])")
    exit(1)
}
var options = Subscriber.Options(host: String(arguments[1][..<colon]), port: port)
options.trust = .file(arguments[2])
options.interface = arguments[3]
options.usesFlow = arguments.last != "unicast"
options.delivery = .streamed
let reactor = try Reactor()
let receiver = try FileReceiver(into: file, options, on: reactor)
reactor.run()
receiver.close()
print("\(receiver.octets.flow) octets came on the flow, \(receiver.octets.others) otherwise or in part")
exit(receiver.isWhole ? 0 : 1)
