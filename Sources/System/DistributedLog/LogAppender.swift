import Objects
import Synchronization
import Wire

/// Appends objects to a distributed log, one at a time; who appends waits until the log has the object, however long that takes. Each has
/// an identity, by which it is taken once however often it is tried.
package final class LogAppender: Sendable {
    private struct Shared {
        var connection: NATSConnection?
        /// By name, what the newest object of it in the log is known by.
        var newest: [String: String] = [:]
    }

    private struct Switch: Sendable {
        /// Appending is allowed until then.
        var until: Instant?
        var isStopped = false
    }

    private let place: LogPlace
    private let onState: @Sendable (LogProblem?) -> Void
    private let shared: Mutex<Shared>
    private let isAllowed = Monitor(Switch())

    private static let pauses = (first: Duration.milliseconds(50), longest: Duration.seconds(2))

    /// - Parameter onState: gets what keeps it from appending, and nil when it goes on.
    package init(_ place: LogPlace, onState: @escaping @Sendable (LogProblem?) -> Void) {
        self.place = place
        self.onState = onState
        shared = Mutex(Shared())
    }

    /// What an object is known by in a log: the digest of its octets, and of which version it is the successor, so that a text that
    /// comes back is another one.
    package struct Identity {
        var digest: String
        var before: String?
        var text: String { "\(digest)-\(before.map { String($0.prefix(16)) } ?? "0")" }
    }

    /// Appending is allowed until then, by the monotonic clock; nil: not at all.
    func allow(until: Instant?) {
        isAllowed.change { $0.until = until }
        isAllowed.wake()
    }

    /// Whoever appends gives up.
    package func stop() {
        isAllowed.change { $0.isStopped = true }
        isAllowed.wake()
    }

    /// Reads what the log has, so that nothing of it is appended again. To be done whenever somebody else may have appended.
    func learn(from connection: NATSConnection) throws(LogProblem) {
        var newest: [String: String] = [:]
        let stream = try connection.stream()
        if stream.last >= stream.first, stream.messages > 0 {
            let messages = try connection.read(from: stream.first, headersOnly: true)
            var silent = 0
            while silent < 8 {
                guard let (message, identity) = try messages.next(within: 250) else {
                    silent += 1
                    continue
                }
                silent = 0
                if let identity, message.part.map({ $0.hasPrefix("1/") }) ?? true {
                    newest[message.name ?? String(identity.prefix { $0 != "-" })] = identity
                }
                if message.sequence >= stream.last { break }
            }
            guard silent < 8 else { throw LogProblem(.unreachable, "the log does not say what it has") }
        }
        let found = newest
        shared.withLock { $0.newest = found }
    }

    /// Appends an object, unless it is the newest of its name already.
    /// - Parameter digest: of its octets, in hexadecimal digits.
    /// - Returns: whether the log has it; false when it gave up, because somebody else may append now or it was stopped.
    package func append(name: String, mediaType: String, digest: String, body: [UInt8]) -> Bool {
        // A header is one line.
        let isPlain = { (text: String) in text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7f } }
        let name = isPlain(name) ? name : ""
        return shared.withLock { shared in
            // One without a name is only ever equal to itself.
            let key = name.isEmpty ? digest : name
            let before = shared.newest[key]
            if let before, before.hasPrefix(digest) { return true }
            let identity = Identity(digest: digest, before: before)
            var pause = Self.pauses.first
            var problem: LogProblem.Kind?
            var attempt = 0
            while mayAppend {
                do throws(LogProblem) {
                    if shared.connection == nil { shared.connection = try NATSConnection(place) }
                    guard let connection = shared.connection else { continue }
                    try send(body, name: name, mediaType: mediaType, identity: identity.text, attempt, by: connection)
                    shared.newest[key] = identity.text
                    if problem != nil { onState(nil) }
                    return true
                } catch {
                    switch error.kind {
                    case .taken:
                        // Another appended between two parts of it: from the beginning, under another identity.
                        attempt += 1
                        continue
                    case .unacceptable:
                        onState(error)
                        return true
                    case .unreachable: shared.connection = nil
                    default: break
                    }
                    if problem != error.kind { onState(error) }
                    problem = error.kind
                    let end = monotonicNow() + pause
                    isAllowed.wait { $0.isStopped || monotonicNow() >= end ? .done(()) : .wait(until: end) }
                    pause = min(pause * 2, Self.pauses.longest)
                }
            }
            return false
        }
    }

    private var mayAppend: Bool {
        isAllowed.change { state in !state.isStopped && state.until.map { monotonicNow() < $0 } ?? false }
    }

    private func send(
        _ body: [UInt8], name: String, mediaType: String, identity: String, _ attempt: Int,
        by connection: NATSConnection
    ) throws(LogProblem) {
        let size = ObjectLimits.partOctets
        let count = max(1, (body.count + size - 1) / size)
        var last: UInt64 = 0
        for index in 0..<count {
            var headers: [String] = []
            if index == 0 {
                if !name.isEmpty { headers += [LogHeader.name, name] }
                if !mediaType.isEmpty { headers += [LogHeader.mediaType, mediaType] }
                if count > 1 { headers += [LogHeader.length, "\(body.count)"] }
            }
            if count > 1 { headers += [LogHeader.part, "\(index + 1)/\(count)"] }
            var id = identity
            if attempt > 0 { id += "~\(attempt)" }
            if index > 0 { id += "/\(index + 1)" }
            last = try connection.append(
                body[index * size..<min((index + 1) * size, body.count)], headers: headers, identity: id, behind: last)
        }
    }
}
