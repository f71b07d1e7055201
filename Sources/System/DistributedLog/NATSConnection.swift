import CShims
import Glibc
import Objects
import Wire

/// A connection to NATS JetStream, through the door in CShims. One thread at a time uses it, and waits.
@safe final class NATSConnection {
    private let handle: OpaquePointer
    private let place: LogPlace

    /// What there is in a stream.
    struct Stream: Equatable {
        /// In nanoseconds since 1970.
        var created: Int64
        /// The lowest number kept.
        var first: UInt64
        /// The highest number given out; 0 for none.
        var last: UInt64
        var messages: UInt64
        var octets: UInt64
    }

    /// Why no log can be used on this machine; nil when one can.
    static var obstacle: String? { unsafe fc_nats_obstacle().map { unsafe String(cString: $0) } }

    /// Connects to one of the servers, and again whenever that is lost.
    init(_ place: LogPlace) throws(LogProblem) {
        if let obstacle = Self.obstacle { throw LogProblem(.unreachable, obstacle) }
        self.place = place
        let login = try place.login()
        var opened: OpaquePointer?
        let code = unsafe Self.withStrings(place.servers) { servers in
            unsafe Self.withLogin(login) { login in
                var login = unsafe login
                return unsafe fc_nats_open(servers, Int32(place.servers.count), place.authorities, &login, &opened)
            }
        }
        guard let opened = unsafe opened else { throw LogProblem(.unreachable, "there is no memory to connect") }
        guard Int(code) == FC_NATS_DONE else {
            let problem = unsafe Self.problem(code, opened, place)
            unsafe fc_nats_close(opened)
            throw problem
        }
        unsafe handle = opened
    }

    deinit { unsafe fc_nats_close(handle) }

    /// The stream of the log.
    func stream() throws(LogProblem) -> Stream {
        var found = fc_nats_stream()
        try check(unsafe fc_nats_stream(handle, place.stream, &found))
        return Stream(
            created: found.created, first: max(1, found.first), last: found.last, messages: found.messages,
            octets: found.octets)
    }

    /// Makes the stream, if it is not there.
    func makeStream(_ retention: Retention, window: Duration) throws(LogProblem) {
        try check(
            unsafe fc_nats_make_stream(
                handle, place.stream, place.subject, Int64(retention.objects ?? 0), Int64(retention.octets ?? 0),
                retention.age?.nanoseconds ?? 0, Int32(place.replicas), window.nanoseconds))
    }

    /// Appends a message with these headers; `behind`: only right behind this one. Returns its number.
    func append(
        _ body: ArraySlice<UInt8>, headers: [String], identity: String, behind: UInt64 = 0
    ) throws(LogProblem) -> UInt64 {
        var sequence: UInt64 = 0
        let code = unsafe Self.withStrings(headers) { headers in
            unsafe body.withUnsafeBufferPointer { body in
                unsafe fc_nats_append(
                    handle, place.subject, headers, body.baseAddress, body.count, identity, behind, &sequence)
            }
        }
        try check(code)
        return sequence
    }

    /// Takes or renews the lease; `revision` is 0 where it is not held.
    func lease(_ key: String, by holder: String, for life: Duration, revision: inout UInt64) throws(LogProblem) {
        try check(
            unsafe fc_nats_lease(
                handle, place.leaseBucket, key, holder, life.nanoseconds, Int32(place.replicas), &revision))
    }

    /// Gives the lease back.
    func endLease(_ key: String, revision: inout UInt64) { unsafe fc_nats_end_lease(handle, key, &revision) }

    /// Messages from one on, in order.
    func read(from sequence: UInt64, headersOnly: Bool = false) throws(LogProblem) -> NATSMessages {
        var made: OpaquePointer?
        let code = unsafe fc_nats_read(handle, place.stream, place.subject, sequence, headersOnly ? 1 : 0, &made)
        let messages = unsafe NATSMessages(made, of: self)
        try check(code)
        return messages
    }

    /// The next message; nil when none comes in so many milliseconds.
    fileprivate func next(_ messages: OpaquePointer?, _ patience: Int32) throws(LogProblem) -> (
        LoggedMessage, identity: String?
    )? {
        var message = unsafe fc_nats_message()
        let code = unsafe fc_nats_next(handle, messages, patience, &message)
        if Int(code) == FC_NATS_NONE { return nil }
        try check(code)
        defer { unsafe fc_nats_let_go(&message) }
        func header(_ name: String) -> String? {
            unsafe fc_nats_header(&message, name).map { unsafe String(cString: $0) }
        }
        let logged = unsafe LoggedMessage(
            sequence: message.sequence, time: WallTime(nanoseconds: message.time), name: header(LogHeader.name),
            mediaType: header(LogHeader.mediaType), part: header(LogHeader.part), length: header(LogHeader.length),
            body: [UInt8](unsafe UnsafeBufferPointer(start: message.body, count: message.count)))
        return (logged, header(LogHeader.identity))
    }

    private func check(_ code: Int32) throws(LogProblem) {
        if Int(code) != FC_NATS_DONE { throw unsafe Self.problem(code, handle, place) }
    }

    private static func problem(_ code: Int32, _ handle: OpaquePointer, _ place: LogPlace) -> LogProblem {
        let words = unsafe fc_nats_error(handle).map { unsafe String(cString: $0) } ?? ""
        return switch Int(code) {
        case FC_NATS_REFUSED:
            LogProblem(.refused, "\(place) does not let us in (\(words)): look at --log-credentials and --log-ca")
        case FC_NATS_MISSING:
            LogProblem(.missing, "there is no stream \(place.stream) (\(words)): flexicast poll makes it")
        case FC_NATS_TAKEN: LogProblem(.taken, words)
        case FC_NATS_FULL: LogProblem(.full, "\(place) has no room (\(words))")
        case FC_NATS_WRONG: LogProblem(.unacceptable, "\(place) does not take it (\(words))")
        default: LogProblem(.unreachable, "\(place) cannot be reached (\(words))")
        }
    }

    private static func withStrings<R>(
        _ texts: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> R
    ) -> R {
        let copies = unsafe texts.map { unsafe strdup($0) }
        defer { for index in unsafe copies.indices { unsafe free(copies[index]) } }
        let pointers: [UnsafePointer<CChar>?] = unsafe copies.map { unsafe UnsafePointer($0) } + [nil]
        return unsafe pointers.withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress else { preconditionFailure("an array of one has an address") }
            return unsafe body(base)
        }
    }

    private static func withLogin<R>(_ login: LogPlace.Login, _ body: (fc_nats_login) -> R) -> R {
        switch login {
        case .nobody: unsafe body(fc_nats_login())
        case .file(let path):
            unsafe path.withCString { unsafe body(fc_nats_login(file: $0, user: nil, password: nil, token: nil)) }
        case .user(let user, let password):
            unsafe user.withCString { user in
                unsafe password.withCString {
                    unsafe body(fc_nats_login(file: nil, user: user, password: $0, token: nil))
                }
            }
        case .token(let token):
            unsafe token.withCString { unsafe body(fc_nats_login(file: nil, user: nil, password: nil, token: $0)) }
        }
    }
}

/// Messages of a stream as they come.
@safe final class NATSMessages {
    private let handle: OpaquePointer?
    private let connection: NATSConnection

    fileprivate init(_ handle: OpaquePointer?, of connection: NATSConnection) {
        unsafe self.handle = unsafe handle
        self.connection = connection
    }

    deinit { unsafe fc_nats_end_reading(handle) }

    /// The next message and its identity; nil when none comes in so many milliseconds.
    func next(within patience: Int32) throws(LogProblem) -> (LoggedMessage, identity: String?)? {
        try unsafe connection.next(handle, patience)
    }
}

/// Names of a message's headers.
enum LogHeader {
    static let name = "Flexicast-Name"
    static let mediaType = "Content-Type"
    static let part = "Flexicast-Part"
    static let length = "Flexicast-Length"
    static let identity = "Nats-Msg-Id"
}
