import Foundation
import TestSupport
import Testing

extension Deployment {
    /// A service manager holds the source's socket and hands it to each process that it starts (sd_listen_fds(3)).
    @Suite struct Activation {
        /// How many receivers: a handful, or as many as a variable says.
        private static let receivers =
            ProcessInfo.processInfo.environment["FLEXICAST_RELOAD_RECEIVERS"].flatMap { Int($0) } ?? 4

        /// Holds a socket and starts the command with it. SIGUSR1 kills the process and starts it anew, SIGUSR2 ends it as a stop
        /// would, until SIGUSR1 comes.
        private static let manager = #"""
            import os, signal, socket, subprocess, sys
            held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            held.bind(("127.0.0.1", 0))
            print("{\"event\":\"held\",\"address\":\"127.0.0.1:%d\"}" % held.getsockname()[1], flush=True)
            command = sys.argv[1:]
            def start():
                return subprocess.Popen(
                    ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh"] + command,
                    env=dict(os.environ, LISTEN_FDS="1", LISTEN_FDNAMES="quic"), close_fds=False,
                    preexec_fn=lambda: (signal.pthread_sigmask(signal.SIG_SETMASK, []), os.dup2(held.fileno(), 3)))
            signals = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM]
            signal.pthread_sigmask(signal.SIG_BLOCK, signals)
            # Descriptor 3 is the one that is handed over.
            os.dup2(held.fileno(), 3) if held.fileno() != 3 else os.set_inheritable(3, True)
            child = start()
            while True:
                number = signal.sigwait(signals)
                child.send_signal(signal.SIGKILL if number == signal.SIGUSR1 else signal.SIGTERM)
                status = child.wait()
                if number == signal.SIGTERM: sys.exit(status)
                if number == signal.SIGUSR1: child = start()
            """#

        /// What is handed over and is no UDP socket is an error that says so.
        @Test(arguments: ["source", "relay"]) func onlyUDPSocketsAreTaken(command: String) throws {
            let options =
                command == "source" ? ["--feed", "x", "--listen", "127.0.0.1:0"] : ["--group", "232.1.1.1:5000"]
            let started = try run(
                "/bin/sh",
                ["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\" 3</dev/null", "sh", Ground.program, command] + options)
            #expect(started.status == 1 && started.errors.contains("only UDP sockets are of use"), "\(started.errors)")
        }

        @Test func aRestartRefusesNobody() throws {
            let directory = try TemporaryDirectory()
            let feed = try LoadFeed(file: directory.url.appending(path: "feed.atom"), octets: LoadFeed.smallItem)
            try feed.publish(1)
            let source = try Child(
                "source",
                [
                    "python3", "-c", Self.manager, Ground.program, "source", "--feed", feed.file.path, "--poll", "50ms",
                    "--listen", "127.0.0.1:0", "--state", directory.url.appending(path: "state").path, "--json",
                ], log: directory.url.appending(path: "source.log"))
            defer { _ = try? source.end() }
            func awaitStart(_ number: Int) throws {
                try waitUntil(seconds: 20, "start \(number)\n\(source.logTail)") {
                    source.tell { $0.count("listening") } >= number
                }
            }
            try awaitStart(1)
            let held = try #require(source.told.events.first { $0.event == "held" }?.address)
            let listening = source.told.events.first { $0.event == "listening" }
            #expect(listening?.address == held, "it listens on the socket that it was handed")
            let fingerprint = try #require(listening?.certificate)

            func receive(_ index: Int) throws -> Child {
                try Child(
                    "receiver-\(index)", [Ground.program, "receive", held, "--trust", fingerprint, "--json"],
                    log: directory.url.appending(path: "receiver-\(index).log"))
            }
            var receivers = try (0..<Self.receivers).map(receive)
            func awaitItems(_ count: Int) throws {
                for receiver in receivers {
                    try waitUntil(
                        seconds: 60, "\(count) items at \(receiver.name)\n\(receiver.logTail)\n\(source.logTail)"
                    ) {
                        receiver.tell { $0.itemLines } >= count
                    }
                }
            }
            try awaitItems(1)
            #expect(source.log.contains("resumed=false"))

            // Killed: all come back by their tickets, and get what was published meanwhile and afterwards.
            let before = source.log.count
            try feed.publish(1)
            source.signal(SIGUSR1)
            try awaitStart(2)
            try feed.publish(1)
            try awaitItems(3)
            let log = source.log.dropFirst(before)
            #expect(log.contains("resumed=true") && !log.contains("resumed=false"), "\(source.logTail)")
            #expect(!log.contains("connection refused"))

            // Ended: whoever comes while nobody is there is served by the next one.
            source.signal(SIGUSR2)
            try waitUntil(seconds: 20, "the end\n\(source.logTail)") { source.tell { $0.summary != nil } }
            receivers.append(try receive(receivers.count))
            source.signal(SIGUSR1)
            try awaitStart(3)
            try awaitItems(3)
            try feed.publish(1)
            try awaitItems(4)
            for receiver in receivers {
                #expect(receiver.tell { $0.itemLines } == 4, "\(receiver.name): each once")
                #expect(try receiver.end() == 0)
            }
        }
    }
}
