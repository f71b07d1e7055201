import ArgumentParser
import Cryptography
import Measurement
import Operation
import Reactor
import Wire

struct PerfCryptoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "crypto",
        abstract: "Seal, mask and open packets in memory, for each suite and size.",
        discussion: """
            Nanoseconds of CPU per packet, medians of rounds: sealed in runs of \(CryptographyTrial.run), masks included; \
            the masks of a run alone; sealed one at a time; unmasked and opened. --least is packets sealed per second, \
            of the slowest row.
            """)

    @Option(
        help: ArgumentHelp("Octets of a packet, several with commas (default: 1200).", valueName: "octets"),
        transform: parseIntegers(in: 64...9000, "octets"))
    var size = [1200]

    @Option(help: ArgumentHelp("Cipher; may be given again (default: all).", valueName: "suite"))
    var suite: [CipherChoice] = []

    @OptionGroup var cipherLibrary: AEADOptions
    @OptionGroup var perf: PerfOptions

    func run() throws {
        let output = try perf.begin()
        let setting: [(String, PerfLine.Value)] =
            [
                ("mode", .text("crypto")), ("backend", .text("none, in memory")),
                ("library", .text(cryptographyLibrary)),
                ("offloads", .text("none")),
            ] + perf.machine
        output.report(
            PerfLine(
                fields: [("event", .text("begin"))] + setting,
                text: describe(setting)
                    + "suite                 octets   seal ns  = masks   singly   open ns  seal Gbit/s  open Gbit/s  seal kpackets/s  allocations/packet"
            ))
        let suites = suite.isEmpty ? CipherChoice.allCases : suite
        let share = perf.duration / (suites.count * size.count)
        var slowest = Double.infinity
        for suite in suites {
            for size in size {
                let (costs, sealed) = measure(suite, size, until: Reactor.clock() + share)
                output.report(line(suite, size, costs, sealed, setting))
                slowest = min(slowest, 1e9 / costs.seal)
            }
        }
        output.flush()
        try perf.judge(slowest)
    }

    private func measure(
        _ suite: CipherChoice, _ size: Int, until deadline: Instant
    ) -> (CryptographyTrial.Costs, sealed: EndCounts) {
        var trial = CryptographyTrial(suite, size: size)
        _ = trial.round(runs: 20)
        let before = trial.sealed
        var rounds: [CryptographyTrial.Costs] = []
        repeat { rounds.append(trial.round(runs: 50)) } while Reactor.clock() < deadline
        var costs = CryptographyTrial.Costs()
        for field in [\CryptographyTrial.Costs.seal, \.masks, \.sealSingly, \.open] {
            costs[keyPath: field] = median(rounds.map { $0[keyPath: field] })
        }
        return (costs, trial.sealed - before)
    }

    private func line(
        _ suite: CipherChoice, _ size: Int, _ costs: CryptographyTrial.Costs, _ sealed: EndCounts,
        _ setting: [(String, PerfLine.Value)]
    ) -> PerfLine {
        let bits = Double(size) * 8
        var text = suite.rawValue + String(repeating: " ", count: max(0, 20 - suite.rawValue.count))
        text += padded("\(size)", 8) + padded(fixed(costs.seal, 0), 10) + padded(fixed(costs.masks, 1), 9)
        text += padded(fixed(costs.sealSingly, 0), 9) + padded(fixed(costs.open, 0), 10)
        text += padded(fixed(bits / costs.seal, 2), 13) + padded(fixed(bits / costs.open, 2), 13)
        text += padded(fixed(1e6 / costs.seal, 1), 17)
        text += padded(sealed.allocations.map { fixed(Double($0) / Double(sealed.packets), 4) } ?? "-", 20)
        return PerfLine(
            fields: [
                ("event", .text("summary")), ("aead", .text(suite.rawValue)), ("packet_octets", .integer(size)),
                ("seal_ns", .number(costs.seal)), ("masks_ns", .number(costs.masks)),
                ("seal_singly_ns", .number(costs.sealSingly)), ("open_ns", .number(costs.open)),
                ("seal_bits_per_s", .number(bits / costs.seal * 1e9)),
                ("open_bits_per_s", .number(bits / costs.open * 1e9)),
            ] + PerfEndReport(messages: "sends", setting: []).fields(sealed) + setting, text: text)
    }
}

func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    guard let last = sorted.last else { return .nan }
    let middle = sorted.count / 2
    return sorted.count == 1 ? last : sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
