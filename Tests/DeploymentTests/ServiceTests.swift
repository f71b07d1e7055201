import Foundation
import TestSupport
import Testing

extension Deployment {
    /// What a service manager hears (sd_notify(3)): a stand-in for systemd that speaks its protocol.
    @Suite struct Service {
        /// Starts the command with a socket to notify, passes on SIGHUP and SIGTERM at words on standard input, and prints what
        /// it hears, a line for each message.
        private static let manager = #"""
            import os, signal, socket, subprocess, sys
            path = sys.argv[1]
            if path.startswith("@"): path = "\0" + path[1:]
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            listener.bind(path)
            listener.settimeout(30)
            environment = dict(os.environ, NOTIFY_SOCKET=sys.argv[1], WATCHDOG_USEC="200000")
            def meant(): os.environ["WATCHDOG_PID"] = str(os.getpid())
            child = subprocess.Popen(
                ["/bin/sh", "-c", 'WATCHDOG_PID=$$ exec "$@"', "sh"] + sys.argv[2:], env=environment,
                stdout=subprocess.DEVNULL)
            def until(word):
                beats = 0
                while True:
                    text = listener.recv(4096).decode()
                    beats += "WATCHDOG=1" in text
                    if word in text or word == "beats" and beats == 3:
                        print(text.replace("\n", " ")); return
            until("READY=1")
            until("beats")
            if "source" in sys.argv:
                child.send_signal(signal.SIGHUP)
                until("RELOADING=1"); until("READY=1")
            child.send_signal(signal.SIGTERM)
            until("STOPPING=1")
            print("status", child.wait(30))
            """#

        @Test(arguments: ["source", "receive", "relay"]) func theManagerIsTold(_ command: String) throws {
            let directory = try TemporaryDirectory()
            let feed = try LoadFeed(file: directory.url.appending(path: "feed.atom"), octets: LoadFeed.smallItem)
            let options =
                switch command {
                case "source": ["--feed", feed.file.path, "--listen", "127.0.0.1:0"]
                case "receive": ["127.0.0.1:9"]
                default: ["--listen", "127.0.0.1:22680", "--group", "232.1.1.1:5000", "--drain", "100ms"]
                }
            let socket = command == "relay" ? "@flexicast-\(UUID().uuidString)" : directory.url.path + "/notify"
            let heard = try run(
                "/usr/bin/python3", ["-c", Self.manager, socket, Ground.program, command] + options)
            let lines = heard.output.split(separator: "\n").map(String.init)
            #expect(heard.status == 0, "\(heard.errors)")
            #expect(lines.first?.hasPrefix("READY=1 STATUS=") == true)
            #expect(lines.contains { $0.hasPrefix("WATCHDOG=1") })
            if command == "source" {
                #expect(lines.contains { $0.hasPrefix("RELOADING=1 MONOTONIC_USEC=") })
                #expect(lines.first?.contains("0 receivers") == true)
            }
            #expect(lines.contains { $0.hasPrefix("STOPPING=1") })
            #expect(lines.last == "status 0")
        }
    }
}
