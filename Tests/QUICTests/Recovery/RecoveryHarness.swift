import Testing
import Wire

@testable import QUIC

func at(_ milliseconds: Int64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }

/// A `LossRecovery` with the connection's part played by hand. Each packet carries one DATA-like frame that names it.
struct Sender {
    var recovery: LossRecovery
    var acked: [SentFrame] = []
    var lost: [SentFrame] = []

    init(
        role: Role = .server, confirmed: Bool = true, maxDatagramSize: Int = 1200, random: SeededRandom? = nil,
        at now: Instant = at(0)
    ) {
        recovery = LossRecovery(role: role, maxDatagramSize: maxDatagramSize, at: now, random: random)
        recovery.handshakeConfirmed = confirmed
    }

    static func frame(_ packetNumber: UInt64) -> SentFrame { .crypto(offset: packetNumber, length: 1) }

    @discardableResult
    mutating func send(
        _ level: ProtectionLevel = .application, size: Int = 1200, eliciting: Bool = true, ecn: ECN = .notECT,
        isPathProbe: Bool = false, at now: Instant
    ) -> UInt64 {
        let number = recovery.takePacketNumber(level)
        recovery.packetSent(
            level, packetNumber: number, size: size, ackEliciting: eliciting, inFlight: eliciting,
            frames: [Self.frame(number)], ecn: ecn, isPathProbe: isPathProbe, at: now)
        return number
    }

    mutating func acknowledge(
        _ ranges: ClosedRange<UInt64>..., delay: Duration = .zero,
        ecn: (ect0: UInt64, ect1: UInt64, ce: UInt64)? = nil, at now: Instant
    ) throws {
        try recovery.acknowledged(
            .application, ranges: ranges, ackDelay: delay, ecnCounts: ecn, at: now, ackedFrames: &acked,
            lostFrames: &lost)
    }

    mutating func acknowledge(
        _ level: ProtectionLevel, _ ranges: ClosedRange<UInt64>..., delay: Duration = .zero,
        ecn: (ect0: UInt64, ect1: UInt64, ce: UInt64)? = nil, at now: Instant
    ) throws {
        try recovery.acknowledged(
            level, ranges: ranges, ackDelay: delay, ecnCounts: ecn, at: now, ackedFrames: &acked, lostFrames: &lost)
    }

    mutating func fire(at now: Instant) -> TimerOutcome { recovery.timerFired(at: now, lostFrames: &lost) }

    /// Numbers of the packets whose frames were reported lost since the last call, in order.
    mutating func takeLost() -> [UInt64] {
        defer { lost = [] }
        return Self.numbers(lost)
    }

    mutating func takeAcked() -> [UInt64] {
        defer { acked = [] }
        return Self.numbers(acked)
    }

    private static func numbers(_ frames: [SentFrame]) -> [UInt64] {
        frames.compactMap { if case .crypto(let offset, _) = $0 { offset } else { nil } }
    }
}
