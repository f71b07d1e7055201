import ArgumentParser
import Cryptography
import Measurement
import Operation
import Reactor
import Wire

struct PerfHandshakeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "handshake",
        abstract: "Do QUIC handshakes in memory, beside those that OpenSSL does alone.",
        discussion: """
            Client and server on one thread, with a P-256 certificate; per second of CPU, both ends together. OpenSSL alone \
            does the same TLS handshakes with the same certificate and key over memory, in turns with ours, and the ratio \
            is the median of all turns. A packet is a datagram of either end. Cryptography is TLS and packet protection. \
            --least is full QUIC handshakes per second.
            """)

    @Option(
        help: ArgumentHelp(
            "Exit with status 2 when full QUIC handshakes are fewer than this part of OpenSSL's, such as 0.7.",
            valueName: "ratio"))
    var leastRatio: Double?

    @OptionGroup var cipherLibrary: AEADOptions
    @OptionGroup var perf: PerfOptions

    func run() throws {
        let output = try perf.begin()
        let trial = try HandshakeTrial()
        let setting: [(String, PerfLine.Value)] =
            [
                ("mode", .text("handshake")), ("backend", .text("none, in memory")),
                ("aead", .text("\(CipherChoice.aes256.rawValue) (\(cryptographyLibrary))")),
                ("key", .text("ECDSA P-256")),
                ("offloads", .text("none")),
            ] + perf.machine
        output.report(
            PerfLine(
                fields: [("event", .text("begin"))] + setting,
                text: describe(setting) + "kind       QUIC/CPU-s  OpenSSL/CPU-s  ratio"))
        var full: (rate: Double, ratio: Double) = (0, 0)
        for kind in HandshakeTrial.Kind.allCases {
            let before = trial.counts
            let (quic, alone) = try measure(trial, kind)
            let counts = trial.counts - before
            let ratio = median(zip(quic, alone).map { $1 / $0 })
            let (rate, aloneRate) = (1e9 / median(quic), 1e9 / median(alone))
            if kind == .full { full = (rate, ratio) }
            var text = kind.rawValue + String(repeating: " ", count: 9 - kind.rawValue.count)
            text += padded(fixed(rate, 0), 12) + padded(fixed(aloneRate, 0), 15) + padded(fixed(ratio, 3), 7)
            let packets = Double(counts.packets) / Double(quic.count * Self.count)
            text += "  \(fixed(packets, 1)) packets each; " + PerfEndReport.costs(counts, messages: "sends")
            output.report(
                PerfLine(
                    fields: [
                        ("event", .text("summary")), ("kind", .text(kind.rawValue)),
                        ("handshakes_per_cpu_s", .number(rate)),
                        ("openssl_handshakes_per_cpu_s", .number(aloneRate)), ("ratio", .number(ratio)),
                        ("rounds", .integer(quic.count)), ("packets_per_handshake", .number(packets)),
                    ] + PerfEndReport(messages: "sends", setting: []).fields(counts) + setting, text: text))
        }
        output.flush()
        try perf.judge(full.rate)
        if let leastRatio, full.ratio < leastRatio { throw ExitCode(2) }
    }

    /// Handshakes of a round.
    private static let count = 20

    /// Nanoseconds of CPU of one handshake, by rounds.
    private func measure(
        _ trial: HandshakeTrial, _ kind: HandshakeTrial.Kind
    ) throws -> (quic: [Double], alone: [Double]) {
        _ = try trial.round(kind, count: Self.count)
        let end = Reactor.clock() + perf.duration / 2
        var quic: [Double] = []
        var alone: [Double] = []
        repeat {
            let round = try trial.round(kind, count: Self.count)
            quic.append(Double(round.quic) / Double(Self.count))
            alone.append(Double(round.alone) / Double(Self.count))
        } while Reactor.clock() < end
        return (quic, alone)
    }
}
