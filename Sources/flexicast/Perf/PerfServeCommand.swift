import ArgumentParser
import Cryptography
import Measurement
import Reactor
import Transport
import Wire

struct PerfServeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Answer HTTP/3 requests for /N with N octets: plain QUIC, for clients of any make.",
        discussion: """
            Runs until SIGINT or SIGTERM, or for --duration. Perf/ngtcp2 compares it with ngtcp2's server.
            """)

    @Option(help: ArgumentHelp("Where clients connect.", valueName: "addr:port"), transform: parseListenAddress)
    var listen: SocketAddress

    @Option(
        help: ArgumentHelp("PEM file of the certificate chain; without it one is made for this run.", valueName: "file")
    )
    var certificate: String?

    @Option(help: ArgumentHelp("PEM file of the certificate's private key.", valueName: "file"))
    var key: String?

    @OptionGroup var datagramLimit: DatagramSizeOptions
    @OptionGroup var cipherLibrary: AEADOptions
    @OptionGroup var perf: PerfOptions

    func validate() throws {
        guard (certificate == nil) == (key == nil) else {
            throw ValidationError("--certificate and --key go together; give both, or neither for a self-signed one")
        }
    }

    func run() throws {
        let output = try perf.begin()
        var files: CertificateFiles?
        if let certificate, let key { files = CertificateFiles(certificate: certificate, key: key) }
        let trial = try TransferTrial(
            listen: listen, certificate: files, maxDatagramSize: datagramLimit.maxDatagramSize, io: perf.io)
        let report = PerfEndReport(
            messages: "sends",
            setting: [
                ("mode", .text("serve")), ("backend", .text(trial.backendDescription)),
                ("at", .text("\(trial.localAddress)")), ("aead", .text("the client's choice (\(cryptographyLibrary))")),
                ("offloads", .text("segmentation, coalescing")),
            ] + perf.machine)
        output.report(report.begin)
        let counts = perf.measure(
            until: Reactor.clock() + perf.duration, { trial.counts },
            { if $0.packets > 0 { output.report(report.interval($0, from: $1)) } }
        ) { trial.run(until: $0) }
        output.report(
            report.summary(
                counts, [("connections", .integer(trial.connections))], note: "\(trial.connections) connections"))
        output.flush()
        try perf.judge(Double(counts.packets) / Double(counts.time) * 1e9)
    }
}
