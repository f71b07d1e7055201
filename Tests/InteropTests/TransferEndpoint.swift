import Cryptography
import Foundation
import QUIC
import Reactor
import TestSupport
import Wire

@testable import Measurement
@testable import Transport

/// A server of ours on a reactor and a thread of its own, until the value is gone.
final class ServerThread: @unchecked Sendable {
    let certificate: URL
    private(set) var port: UInt16 = 0
    private let directory: TemporaryDirectory
    private let wakeup: Wakeup
    private let ended = DispatchSemaphore(value: 0)

    /// - Parameter start: opens the server on a socket of a loopback port; what it returns lives as long as the thread.
    init(
        io: Reactor.IO = .epoll, alpn: [String], suites: [CipherSuite] = CipherSuite.allCases,
        _ start: @escaping @Sendable (Reactor, UDPSocket, TLSContext) throws -> AnyObject
    ) throws {
        directory = try TemporaryDirectory()
        certificate = directory.url.appending(path: "cert.pem")
        // Made here for its certificate, used on the server's thread only.
        nonisolated(unsafe) let context = try TLSContext.server(
            selfSignedFor: ["localhost", "127.0.0.1"], alpn: alpn, suites: suites)
        try unsafe Data(context.certificatePEM.utf8).write(to: certificate)
        final class Box: @unchecked Sendable {
            var wakeup: Wakeup?
            var port: UInt16 = 0
            var error: (any Error)?
        }
        let box = Box()
        let ready = DispatchSemaphore(value: 0)
        let ended = ended
        let thread = Thread {
            defer { ended.signal() }
            do {
                let reactor = try Reactor(io: io)
                let socket = try reactor.udpSocket(bind: SocketAddress("127.0.0.1:0")!)
                let server = unsafe try start(reactor, socket, context)
                box.wakeup = reactor.wakeup
                box.port = socket.localAddress.port
                ready.signal()
                reactor.run()
                withExtendedLifetime(server) { reactor.close() }
            } catch {
                box.error = error
                ready.signal()
            }
        }
        thread.start()
        ready.wait()
        if let error = box.error { throw error }
        wakeup = box.wakeup!
        port = box.port
    }

    deinit {
        wakeup.post { $0.stop() }
        ended.wait()
    }
}

/// Our QUIC server for the tests: "GET n" brings n octets of the pattern, "PUT…" their count and SHA-256.
final class TransferServer {
    struct Options: Sendable {
        var retry = false
        var suites = CipherSuite.allCases
        var loss = 0.0
        var io: Reactor.IO = .epoll
    }

    private let thread: ServerThread
    var port: UInt16 { thread.port }
    var certificate: URL { thread.certificate }

    init(_ options: Options = Options()) throws {
        thread = try ServerThread(io: options.io, alpn: ["transfer", "h3"], suites: options.suites) {
            reactor, socket, context in
            var limits = Listener<NoExtension>.Limits()
            limits.alwaysRetry = options.retry
            let listener = Listener<NoExtension>(
                socket: socket, tls: context, configuration: ConnectionConfiguration(), limits: limits, reactor: reactor
            ) { NoExtension() }
            listener.onAccept = { peer in Self.serve(peer) }
            return listener
        }
    }

    private static func serve(_ peer: Peer<NoExtension>) {
        var requests: [StreamID: [UInt8]] = [:]
        var http = HTTP3Responder(content: pattern)
        peer.onEvent = { [unowned peer] event in
            switch event {
            case .connected where peer.connection.alpn == "h3":
                http.begin(&peer.connection.machine)
            case .streamReadable(let id):
                while let chunk = peer.connection.machine.read(id) {
                    if peer.connection.alpn == "h3" {
                        http.received(chunk, on: id, &peer.connection.machine)
                    } else {
                        requests[id, default: []] += chunk.bytes
                        if chunk.isFinished {
                            let answer = Self.answer(requests.removeValue(forKey: id) ?? [])
                            try? peer.connection.machine.write(id, answer, fin: true)
                        }
                    }
                    if chunk.isFinished { break }
                }
            default: break
            }
        }
    }

    private static func answer(_ request: [UInt8]) -> [UInt8] {
        let text = String(decoding: request.prefix(20), as: UTF8.self)
        if text.hasPrefix("GET "), let count = Int(text.dropFirst(4)) { return pattern(count) }
        let body = Array(request.dropFirst(3))
        return Array("\(body.count) \(SHA256Digest(of: body))".utf8)
    }
}

/// Our QUIC client for the tests: one request, one answer.
final class TransferClient {
    struct Options: Sendable {
        var suites = CipherSuite.allCases
        var updatesKeys = false
        var ticket: [UInt8]?
        var token: [UInt8] = []
        var timeout = Duration.seconds(60)
    }

    struct Result {
        var answer: [UInt8] = []
        var isFinished = false
        var isResumed = false
        var suite: CipherSuite?
        var ticket: [UInt8]?
        var token: [UInt8] = []
        var keyGeneration: UInt64 = 0
        var closed: CloseReason?
        var lost: UInt64 = 0
    }

    /// Connects, sends `request` and returns when the answer, and a ticket to resume with, are there.
    static func exchange(_ request: [UInt8], port: UInt16, trust: URL, _ options: Options = Options()) throws -> Result
    {
        let reactor = try Reactor(io: .epoll)
        defer { reactor.close() }
        let context = try TLSContext.client(trust: .file(trust.path), alpn: ["transfer"], suites: options.suites)
        let socket = try reactor.udpSocket(bind: SocketAddress("127.0.0.1:0")!)
        var random = randomSeed()
        let connection = try SecureConnection(
            client: ConnectionConfiguration(), tls: context, serverName: "localhost",
            to: SocketAddress("127.0.0.1:\(port)")!, localID: ConnectionID(random.octets(8))!, token: options.token,
            resume: options.ticket, seed: random, at: reactor.now)
        let peer = Peer(connection, extension: NoExtension(), socket: socket, reactor: reactor)
        socket.handler = peer
        var result = Result()
        var stream: StreamID?
        peer.onEvent = { [unowned peer] event in
            switch event {
            case .connected:
                stream = try? peer.connection.machine.openStream(bidirectional: true)
                if let stream { try? peer.connection.machine.write(stream, request, fin: true) }
            case .confirmed:
                if options.updatesKeys { _ = peer.connection.machine.updateKeys() }
            case .streamReadable(let id) where id == stream:
                while let chunk = peer.connection.machine.read(id) {
                    result.answer += chunk.bytes
                    result.isFinished = chunk.isFinished
                    if chunk.isFinished { break }
                }
            case .newToken(let token): result.token = token
            case .closed(let reason):
                result.closed = reason
                reactor.stop()
            default: break
            }
            if result.isFinished, peer.connection.sessionTicket != nil { reactor.stop() }
        }
        let limit = reactor.timer(at: reactor.now + options.timeout) { reactor.stop() }
        peer.pump()
        reactor.run()
        result.isResumed = peer.connection.isResumed
        result.suite = peer.connection.suite
        result.ticket = peer.connection.sessionTicket
        result.keyGeneration = peer.connection.machine.keyGeneration
        result.lost = peer.connection.machine.statistics.packetsLost
        peer.connection.machine.close(TransportError(.noError, ""), at: reactor.now)
        peer.pump()
        socket.flush()
        withExtendedLifetime(limit) {}
        return result
    }
}
