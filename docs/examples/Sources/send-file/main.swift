// Sends a file, or standard input, to everybody who is there: send-file ADDRESS:PORT GROUP:PORT INTERFACE RECEIVERS FILE|-
//
// Waits until so many receivers have connected, sends, and ends when all of them have gone. ADDRESS:PORT is where they connect;
// the certificate that they are to trust is written to standard output.
import Foundation
import Logging
import Objects
import Reactor
import Transport
import Wire

func complain(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

/// A file on its way. All of it happens on the reactor's thread.
final class FileSender {
    private let file: FileHandle
    private let name: String
    private let receivers: Int
    private let reactor: Reactor
    private let broadcaster: Broadcaster
    private var object: BroadcastObject?
    private var isWhole = false
    private var timer: TimerHandle?

    init(_ file: FileHandle, name: String, receivers: Int, _ options: Broadcaster.Options, on reactor: Reactor) throws {
        self.file = file
        self.name = name
        self.receivers = receivers
        self.reactor = reactor
        broadcaster = try Broadcaster(options, on: reactor, log: Logger(label: "send-file"))
        broadcaster.onRoom = { [unowned self] in writeOn() }
        timer = reactor.timer(at: reactor.now) { [unowned self] in look() }
        print(broadcaster.certificatePEM)
        fflush(nil)
    }

    private func look() {
        timer?.schedule(at: reactor.now + .milliseconds(50))
        let present = broadcaster.counts.receivers
        if object == nil, present >= receivers {
            object = try? broadcaster.open(name: name, mediaType: "application/octet-stream")
            writeOn()
        }
        if isWhole, present == 0 { reactor.stop() }
    }

    /// Writes as much as there is room for.
    private func writeOn() {
        guard let object, !isWhole else { return }
        do {
            while broadcaster.room > 0 {
                guard let bytes = try file.read(upToCount: 1 << 18), !bytes.isEmpty else {
                    isWhole = true
                    return try broadcaster.finish(object)
                }
                try broadcaster.write(object, Array(bytes))
            }
        } catch {
            complain("\(error)")
            broadcaster.reset(object)
            isWhole = true
        }
    }

    func close() {
        let counts = broadcaster.counts
        complain(
            "on the flow \(counts.bytesFlow) octets, in repair \(counts.bytesRepair), on unicast \(counts.bytesUnicast)"
        )
        broadcaster.close()
    }
}

let arguments = CommandLine.arguments
guard arguments.count == 6, let listen = SocketAddress(arguments[1]), let group = SocketAddress(arguments[2]),
    let receivers = Int(arguments[4])
else {
    complain("usage: send-file ADDRESS:PORT GROUP:PORT INTERFACE RECEIVERS FILE|-")
    exit(64)
}
guard let file = arguments[5] == "-" ? FileHandle.standardInput : FileHandle(forReadingAtPath: arguments[5]) else {
    complain("cannot read \(arguments[5])")
    exit(1)
}
var options = Broadcaster.Options(listen: listen)
options.flow.group = group
options.flow.interface = arguments[3]
options.flow.rate = 1_000_000_000
options.names = ["localhost", "\(listen.address)"]
// These receivers are ours: the slowest of them sets the pace.
options.waiting = .everybody
let reactor = try Reactor()
let sender = try FileSender(file, name: arguments[5], receivers: receivers, options, on: reactor)
reactor.run()
sender.close()
