/// What a peer sent that cannot be: a part or a control message. The description is one sentence for a log line and for
/// the peer: what was wrong and what would do.
public enum ObjectsError: Error, Equatable, Sendable {
    /// A thing on the wire that errors speak of.
    public enum Element: String, Sendable {
        /// The stream of a part, or its body.
        case part
        /// All fields of a part before its body.
        case header = "part header"
        /// The field of the media type.
        case mediaType = "media type"
        /// The field of the object's name.
        case name
        /// A field behind the known ones: a number and octets, which are skipped.
        case `extension` = "extension field"
        /// A message of the control stream, of whatever type.
        case message = "control message"
        /// A POSITION message.
        case position = "POSITION"
        /// A REPORT message.
        case report = "REPORT"
        /// A LOG message.
        case log = "LOG"
        /// A GAP message.
        case gap = "GAP"
        /// An END message.
        case end = "END"
        /// One of the names' beginnings that a client wants.
        case prefix = "prefix of names"
    }

    /// A field of a part that all parts of an object have in common, or that places it in the object.
    public enum Field: String, Sendable {
        /// `PartHeader.name`.
        case name
        /// `PartHeader.mediaType`.
        case mediaType = "media type"
        /// `PartHeader.published`.
        case published = "time of publication"
        /// `PartHeader.count`.
        case count = "number of parts"
        /// `PartHeader.length`, or that of the parts together.
        case length
        /// `PartHeader.sequence`.
        case sequence = "sequence number"
    }

    /// A version of the format that is not known here.
    case version(Element, UInt64)
    /// More than `limit` octets, or a claim of more.
    case tooLong(Element, limit: UInt64)
    /// More than `limit` of them in a message.
    case tooMany(Element, UInt64, limit: UInt64)
    /// It ends inside a field.
    case truncated(Element)
    /// Octets behind the last field.
    case surplus(Element, Int)
    /// Not UTF-8.
    case notText(Element)
    /// A field holds a value that it may not have; `wanted` says which it may.
    case value(Element, field: String, UInt64, wanted: String)
    /// A settled range that touches or overlaps the one before it, or is empty, or ends above the last sequence number.
    case ranges(at: UInt64)
    /// A message that must be understood and is not known.
    case unknownMessage(UInt64)
    /// A message that only the other side sends.
    case wrongDirection(Element)
    /// A second POSITION names a lower position than the one before.
    case positionWentBack(from: UInt64, to: UInt64)
    /// A part does not fit the other parts of its object.
    case contradiction(Field, object: UInt64)
    /// A LOG message takes a position in an epoch that is not the one that was stated.
    case epochMismatch
    /// A second LOG of a connection answers anew what the first has answered.
    case answeredAgain
    /// A message came before the one that has to come first.
    case before(Element, wanted: Element)
    /// A control stream ended before the message that has to come first.
    case controlUnopened(Element)
    /// A control stream was reset, or the other side reads it no more.
    case controlCutOff

    /// An application error code (RFC 9000 section 20.2), for CONNECTION_CLOSE, RESET_STREAM and STOP_SENDING.
    public struct Code: RawRepresentable, Hashable, Sendable {
        public var rawValue: UInt64
        public init(rawValue: UInt64) { self.rawValue = rawValue }

        /// A version that is not known.
        public static let version = Code(rawValue: 0x10)
        /// More than a limit of this format.
        public static let limit = Code(rawValue: 0x11)
        /// Octets that do not follow the format.
        public static let malformed = Code(rawValue: 0x12)
        /// Settled ranges that are not ascending.
        public static let ranges = Code(rawValue: 0x13)
        /// A message that may not come from this side, or at this time.
        public static let unexpected = Code(rawValue: 0x14)
        /// Statements that contradict each other.
        public static let contradiction = Code(rawValue: 0x15)
        /// A control stream that ended too early.
        public static let cutOff = Code(rawValue: 0x16)
        /// Of a stream that is reset: the lifetime of its object has ended.
        public static let lifetime = Code(rawValue: 0x17)
    }

    /// What to close or reset with.
    public var code: Code {
        switch self {
        case .version: .version
        case .tooLong, .tooMany: .limit
        case .truncated, .surplus, .notText, .value: .malformed
        case .ranges: .ranges
        case .unknownMessage, .wrongDirection, .before: .unexpected
        case .positionWentBack, .contradiction, .epochMismatch, .answeredAgain: .contradiction
        case .controlUnopened, .controlCutOff: .cutOff
        }
    }
}

extension ObjectsError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .version(let element, let version):
            "the \(element.rawValue) has version \(version); version 1 is understood"
        case .tooLong(let element, let limit):
            "the \(element.rawValue) is longer than it may be; at most \(limit) octets are accepted"
        case .tooMany(let element, let count, let limit):
            "there are \(count) of \(element.rawValue); at most \(limit) are accepted"
        case .truncated(let element):
            "the \(element.rawValue) ends inside a field; all of its fields are needed"
        case .surplus(let element, let count):
            "\(count) octets follow the last field of the \(element.rawValue); nothing may follow it"
        case .notText(let element):
            "the \(element.rawValue) is not UTF-8; only UTF-8 is accepted"
        case .value(let element, let field, let value, let wanted):
            "the \(field) of the \(element.rawValue) is \(value); it must be \(wanted)"
        case .ranges(let place):
            "the settled range near \(place) does not follow the one before it; ranges must ascend, with a gap between"
        case .unknownMessage(let type):
            "a control message of type \(type) is not known; only odd types may be sent to a peer that may not know them"
        case .wrongDirection(let element):
            "\(element.rawValue) came from the wrong side: a client sends POSITION and REPORT, a source LOG, GAP and END"
        case .positionWentBack(let old, let new):
            "the position went back from \(old) to \(new); a later POSITION must name the same or a higher one"
        case .contradiction(let field, let object):
            "a part of object \(object) has another \(field.rawValue) than the object's other parts allow; they must agree"
        case .epochMismatch:
            "the source took a position in another epoch than was stated; it must answer 'another epoch'"
        case .answeredAgain:
            "a later LOG answers the position anew; it tells the clock and the live edge, with the answer 0 (taken)"
        case .before(let element, let wanted):
            "\(element.rawValue) came before \(wanted.rawValue), which must be the first message"
        case .controlUnopened(let element):
            "it ended before \(element.rawValue), which must be its first message"
        case .controlCutOff:
            "it was reset, or is read no more; it may only be ended, after its first message"
        }
    }
}
