import Wire

/// Which way a part came.
public enum PartWay: Sendable, Equatable {
    /// All of it by the flow.
    case flow
    /// All of it on the receiver's own connection.
    case connection
    /// So many octets of its body by the flow, the others on the connection: repaired, or caught by a change of ways.
    case both(fromFlow: Int)

    /// How many octets of a body came by the flow.
    func octetsFromFlow(of body: ArraySlice<UInt8>) -> UInt64 {
        switch self {
        case .flow: UInt64(body.count)
        case .connection: 0
        case .both(let octets): UInt64(max(0, min(octets, body.count)))
        }
    }
}

/// An object that is whole.
public struct ReceivedObject: Sendable, Equatable {
    /// The number of its first part, which names it in its epoch.
    public var first: UInt64
    /// How many parts it came in.
    public var count: UInt64
    /// Its name, as its parts have it.
    public var name: String
    /// Its media type (RFC 6838); empty when the source named none.
    public var mediaType: String
    /// When it was published, by the source's clock.
    public var published: WallTime
    /// Its octets. Those of an object of one part lie in the stream that brought them, so that they are not copied.
    public var body: ArraySlice<UInt8>
    /// How many of its octets came by the flow; the others came on the receiver's own connection.
    public var octetsFromFlow: UInt64
    /// From its publication until it was whole; nil while the source's clock is not known.
    public var latency: Duration?
}

/// A part of an object of several parts, given out as it came.
public struct ReceivedPart: Sendable, Equatable {
    /// Which part it is, and of which object.
    public var header: PartHeader
    /// The part's octets, which lie in the stream that brought them.
    public var body: ArraySlice<UInt8>
    /// How it came.
    public var way: PartWay
    /// From the object's publication until the part came; nil while the source's clock is not known.
    public var latency: Duration?
    /// With it all parts of the object were given out. That is not said of an object of which some were given out before a
    /// restart: who keeps the parts can tell, for the last one says how many there are.
    public var completes: Bool

    package init(
        header: PartHeader, body: ArraySlice<UInt8>, way: PartWay, latency: Duration?, completes: Bool
    ) {
        self.header = header
        self.body = body
        self.way = way
        self.latency = latency
        self.completes = completes
    }
}

/// Why an object is not given out.
public enum FailureReason: Error, Equatable, Sendable {
    /// One of its parts contradicts the others, or itself.
    case malformed(ObjectsError)
    /// A part of it will not come; nil when that was told before any part of the object came.
    case gap(Gap.Reason?)
    /// It has more octets than the receiver holds for objects that are not whole.
    case tooLarge
    /// Newer objects needed the room that its parts took.
    case noRoom
    /// The log is in another epoch: what is missing will not come.
    case epochEnded
}

extension FailureReason: CustomStringConvertible {
    public var description: String {
        switch self {
        case .malformed(let error): error.description
        case .gap(let reason): "a part will not come: \(reason.map { "\($0)" } ?? "it was told as a gap before")"
        case .tooLarge: "it is larger than what may be held; raise the limit, or take parts as they come"
        case .noRoom: "newer objects needed the room that its parts took; raise the limit, or take parts as they come"
        case .epochEnded: "the source's log started anew before all parts had come"
        }
    }
}

/// An object that was given up. Parts of it that come later are not taken.
public struct AssemblyFailure: Error, Equatable, Sendable {
    /// The number of its first part.
    public var object: UInt64
    /// Its name, when a part of it came.
    public var name: String?
    /// Why it was given up.
    public var reason: FailureReason

    /// `object`: the number of its first part.
    public init(object: UInt64, name: String?, reason: FailureReason) {
        self.object = object
        self.name = name
        self.reason = reason
    }
}

/// What became of a part.
public enum PartAnswer: Sendable, Equatable {
    /// An object is whole.
    case object(ReceivedObject)
    /// A part is given out as it came.
    case part(ReceivedPart)
    /// It waits for the others of its object.
    case held
    /// It had come before.
    case duplicate
    /// Its object was given up before, or is older than what the receiver started with.
    case ended
    /// Its object is given up now.
    case failed(AssemblyFailure)
}

/// What else an event brought about.
public enum AssemblyNotice: Sendable, Equatable {
    /// An object was given up for another, or for a gap.
    case failed(AssemblyFailure)
    /// Numbers that nothing will come for, each told once.
    case gap(Gap)
}
