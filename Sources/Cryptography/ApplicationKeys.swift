import CShims
import QUIC

/// The 1-RTT keys of both directions and their updates (RFC 9001 section 6).
///
/// A generation counts key updates from 0; its lowest bit is the key phase bit. The next read key is always at hand,
/// so that the first packet of an update takes no longer to open than any other (RFC 9001 sections 6.3 and 9.5).
public struct ApplicationKeys {
    /// Key phase bit of a short header.
    static let phaseBit: UInt8 = 0x04

    /// The agreed one; a key update does not change it.
    public let suite: CipherSuite

    /// Kept for packets that were reordered (RFC 9001 section 6.1).
    private var previousRead: OpeningKey?
    private var currentRead: OpeningKey
    private var nextRead: OpeningKey
    /// Generation of the newest key that has opened a packet.
    public private(set) var readGeneration: UInt64 = 0
    /// Lowest packet number opened with the current key: whatever is older may have been sealed with the one before.
    private var lowestCurrent: UInt64?

    private var previousWrite: SealingKey?
    private var currentWrite: SealingKey
    /// Generation of the newest key that has sealed a packet.
    public private(set) var writeGeneration: UInt64 = 0

    /// The keys of generation 0.
    /// - Parameters:
    ///   - suite: the agreed one.
    ///   - readSecret: the peer's traffic secret, `suite.secretLength` octets.
    ///   - writeSecret: our own.
    public init(suite: CipherSuite, readSecret: [UInt8], writeSecret: [UInt8]) {
        self.init(
            reading: OpeningKey(suite: suite, secret: readSecret),
            writing: SealingKey(suite: suite, secret: writeSecret))
    }

    /// Of the first keys of either direction, which TLS yields one after the other.
    public init(reading: OpeningKey, writing: SealingKey) {
        suite = writing.suite
        currentRead = reading
        nextRead = reading.updated()
        currentWrite = writing
    }

    /// Packets sealed with the newest write key, to be held against the suite's `confidentialityLimit`.
    public var sealedCount: UInt64 { currentWrite.sealedCount }

    /// Packets that failed authentication with every key, to be held against the suite's `integrityLimit`
    /// (RFC 9001 section 6.6).
    public private(set) var failedCount: UInt64 = 0

    /// Whether the read key before the current one is still kept for packets that were reordered.
    public var keepsPreviousReadKey: Bool { previousRead != nil }

    /// Drops the previous read key, three probe timeouts after an update (RFC 9001 section 6.5).
    public mutating func dropPreviousReadKey() { previousRead = nil }

    /// Seals packets that all carry one key generation: the one before the newest, the newest, or a later one, which
    /// begins a key update.
    public mutating func seal(_ buffer: inout MutableSpan<UInt8>, _ plans: Span<PacketPlan>) {
        guard plans.count > 0 else { return }
        let generation = plans[0].keyGeneration
        // More than one step is possible: a peer may update twice before we send anything.
        while generation > writeGeneration {
            previousWrite = currentWrite
            currentWrite = currentWrite.updated()
            writeGeneration += 1
        }
        if generation == writeGeneration {
            currentWrite.seal(&buffer, plans)
        } else if generation + 1 == writeGeneration, let previousWrite {
            previousWrite.seal(&buffer, plans)
        } else {
            preconditionFailure("no key of generation \(generation) beside \(writeGeneration)")
        }
    }

    /// Opens a short-header packet in place with the key that its phase bit and packet number call for. A packet that
    /// opens with the next key completes a key update by the peer. A packet may turn out to be sealed with the key before
    /// the current one though its number is too high for that. Parameters and result as for `OpeningKey`.
    public mutating func open(
        _ buffer: inout MutableSpan<UInt8>, start: Int, packetNumberOffset: Int, end: Int, largest: UInt64?,
        pathID: UInt32 = 0
    ) -> OpenedPacket? {
        guard
            var packet = fc_packet(
                start: start, packetNumberOffset: packetNumberOffset, end: end, pathID: pathID, in: buffer.count)
        else { return nil }
        let mask = currentRead.mask
        mask.remove(&buffer, &packet)
        let number = PacketNumber.decode(truncated: packet.number, length: packet.numberLength, largest: largest)
        packet.number = number
        let phase = buffer[start] & Self.phaseBit != 0
        let samePhase = phase == (readGeneration & 1 == 1)

        let key: OpeningKey
        var generation: UInt64
        if samePhase {
            (key, generation) = (currentRead, readGeneration)
        } else if let previousRead, number < lowestCurrent ?? 0 {
            (key, generation) = (previousRead, readGeneration - 1)
        } else {
            (key, generation) = (nextRead, readGeneration + 1)
        }
        var found = key.open(&buffer, packet)
        if found == nil, generation > readGeneration, let previousRead {
            // A key that must not be used any more: the connection has to know (section 6.4).
            generation = readGeneration - 1
            found = previousRead.open(&buffer, packet)
        }
        // What none of them opens is dropped, whatever its phase bit says (RFC 9001 section 5.5).
        guard var opened = found else {
            failedCount += 1
            mask.restore(&buffer, packet)
            return nil
        }
        opened.keyGeneration = generation
        if generation == readGeneration {
            lowestCurrent = min(lowestCurrent ?? number, number)
        } else if generation > readGeneration {
            dropPreviousReadKey()
            previousRead = currentRead
            currentRead = nextRead
            nextRead = currentRead.updated()
            readGeneration = generation
            lowestCurrent = number
        }
        return opened
    }
}
