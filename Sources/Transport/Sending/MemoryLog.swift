import Cryptography
import Objects

/// A log that is forgotten with the process.
package func memoryLog(retention: Retention = Retention()) -> ObjectLog {
    var random = randomSeed()
    do {
        return try ObjectLog(MemoryStore(epoch: Epoch(from: &random)), retention: retention)
    } catch { preconditionFailure("an empty log holds what it may not: \(error)") }
}
