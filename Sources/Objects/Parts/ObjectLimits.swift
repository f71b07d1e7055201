/// The sizes at which what this room holds, sends or takes stops growing, whatever a peer sends.
public enum ObjectLimits {
    /// Octets of a part's stream, prelude and body: what a receiver's stream window must hold to take any part at once.
    public static let streamOctets = 256 << 10
    /// Octets of a part's body.
    public static let partOctets = streamOctets - preludeOctets
    /// Octets of a part's header behind the two numbers that start it.
    public static let headerOctets = 4096
    /// Octets of a part's whole prelude: two variable-length integers and the header.
    public static let preludeOctets = 8 + 8 + headerOctets
    /// Octets of a media type.
    public static let mediaTypeOctets = 255
    /// Octets of an object's name, and of a prefix of names.
    public static let nameOctets = 1024
    /// Octets of a control message behind its type and length.
    public static let messageOctets = 16_384
    /// Octets of a report of a receiver, behind its type and length.
    public static let reportOctets = 256
    /// Ranges above its position that a cursor holds and a POSITION message states.
    public static let settledRanges = 64
    /// Prefixes of names in a POSITION message.
    public static let wantedPrefixes = 64
    /// Sequence numbers are below it: a part's number is that of its stream too, and there are no more streams of a kind
    /// (RFC 9000 section 4.6).
    public static let sequences: UInt64 = 1 << 60
    /// Parts that the log looks at in one reading to find one that is wanted.
    public static let partsPerReading = 1024
    /// Ranges of settled numbers that a receiver remembers. Beyond it the oldest hole is given up and told as a gap: an
    /// object is never given out twice.
    public static let rememberedRanges = 65_536
}
