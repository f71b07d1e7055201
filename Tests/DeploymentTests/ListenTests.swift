import Foundation
import TestSupport
import Testing

extension Deployment {
    /// Where a source listens, and by which interface its flow leaves.
    @Suite struct Listen {
        private func source(_ options: [String], in directory: TemporaryDirectory, network: Namespaces? = nil) throws
            -> Child
        {
            let feed = try LoadFeed(file: directory.url.appending(path: "feed.atom"), octets: LoadFeed.smallItem)
            try feed.publish(1)
            let command = [Ground.program, "source", "--feed", feed.file.path, "--poll", "50ms", "--json"] + options
            let child = try Child(
                "source", network?.command(command, at: 0) ?? command, log: directory.url.appending(path: "source.log"))
            try child.awaitEvent("listening")
            return child
        }

        /// `:0` and `[::]:0` are every address, of IPv4 and IPv6.
        @Test(arguments: [":0", "[::]:0"]) func everyAddressIsOfBothVersions(listen: String) throws {
            let directory = try TemporaryDirectory()
            let source = try source(["--listen", listen], in: directory)
            let told = try #require(source.told.events.first { $0.event == "listening" })
            let port = try #require(told.address?.split(separator: ":").last)
            for (index, host) in ["127.0.0.1", "[::1]"].enumerated() {
                let receiver = try Child(
                    "receiver",
                    [
                        Ground.program, "receive", "\(host):\(port)", "--trust", told.certificate ?? "", "--count", "1",
                        "--json",
                    ], log: directory.url.appending(path: "receiver-\(index).log"))
                try waitUntil(seconds: 20, "an item at \(host)\n\(receiver.logTail)") { !receiver.isRunning }
                #expect(receiver.process.terminationStatus == 0)
            }
            #expect(try source.end() == 0)
        }

        @Test func anInterfaceThatIsNotThereIsNamed() throws {
            let result = try run(
                Ground.program,
                [
                    "source", "--feed", "x", "--listen", "127.0.0.1:0", "--group", "239.77.0.1:4477", "--interface",
                    "nope0",
                ])
            #expect(result.status == 1)
            #expect(
                result.errors.contains("nope0: no such interface") && result.errors.contains("lo"), "\(result.errors)")
        }

        /// A receiver beside the source hears the flow that leaves by a cable.
        @Test(arguments: Namespaces.Family.allCases)
        func theSameMachineHearsTheFlow(family: Namespaces.Family) throws {
            let directory = try TemporaryDirectory()
            let network = try Namespaces(places: 2, family: family)
            let certificate = directory.url.appending(path: "c.pem").path
            let source = try source(
                [
                    "--listen", family == .ipv4 ? "\(network.address(0)):4433" : "[\(network.address(0))]:4433",
                    "--group",
                    "\(network.group)", "--interface", Namespaces.interface, "--write-certificate", certificate,
                ], in: directory, network: network)
            let address = try #require(source.told.events.first { $0.event == "listening" }?.address)
            let receiver = try Child(
                "receiver",
                network.command(
                    [
                        Ground.program, "receive", address, "--trust", certificate, "--interface", Namespaces.interface,
                        "--json",
                    ], at: 0), log: directory.url.appending(path: "receiver.log"))
            try receiver.awaitEvent("listening")
            #expect(try receiver.end() == 0)
            #expect(try source.end() == 0)
        }
    }
}
