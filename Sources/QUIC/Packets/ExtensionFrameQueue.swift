/// Frames of an extension, opaque to QUIC, sent reliably: again when lost, until acknowledged or replaced by a newer frame
/// with the same key.
struct ExtensionFrameQueue: Sendable {
    private struct Entry: Sendable {
        var key: UInt64
        var version: UInt64
        var octets: [UInt8]
        var isInFlight = false
    }

    /// Frames kept at once; a new one beyond it is refused.
    static let maxFrames = 256

    private var entries: [Entry] = []
    private var nextVersion: UInt64 = 0
    /// Entries waiting to be written.
    private(set) var waiting = 0
    /// Frames refused because `maxFrames` were waiting.
    private(set) var refused: UInt64 = 0

    var hasPending: Bool { waiting > 0 }

    mutating func enqueue(_ octets: [UInt8], key: UInt64) {
        nextVersion += 1
        let entry = Entry(key: key, version: nextVersion, octets: octets)
        if let index = entries.firstIndex(where: { $0.key == key }) {
            if entries[index].isInFlight { waiting += 1 }
            entries.remove(at: index)
            entries.append(entry)
        } else if entries.count < Self.maxFrames {
            entries.append(entry)
            waiting += 1
        } else {
            refused += 1
        }
    }

    /// The next frame that fits `room` octets, now in flight.
    mutating func next(fitting room: Int) -> (octets: [UInt8], key: UInt64, version: UInt64)? {
        guard waiting > 0,
            let index = entries.firstIndex(where: { !$0.isInFlight && $0.octets.count <= room })
        else { return nil }
        entries[index].isInFlight = true
        waiting -= 1
        return (entries[index].octets, entries[index].key, entries[index].version)
    }

    mutating func acknowledged(key: UInt64, version: UInt64) {
        guard let index = entries.firstIndex(where: { $0.key == key && $0.version == version }) else { return }
        if !entries[index].isInFlight { waiting -= 1 }
        entries.remove(at: index)
    }

    mutating func lost(key: UInt64, version: UInt64) {
        guard let index = entries.firstIndex(where: { $0.key == key && $0.version == version }),
            entries[index].isInFlight
        else { return }
        entries[index].isInFlight = false
        waiting += 1
    }
}
