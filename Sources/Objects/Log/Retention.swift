/// How much a log keeps. What goes beyond one of the limits is forgotten, the oldest object first and each whole. The
/// newest object stays whatever its size and number; only its age can end it.
public struct Retention: Sendable, Equatable {
    /// Objects; nil for any number.
    public var objects: Int?
    /// Octets of all streams of parts; nil for any number. No object may be larger.
    public var octets: Int?
    /// From an object's time of publication on; nil for ever. An object waits for those before it, however old it is.
    public var age: Duration?

    /// Objects kept unless said otherwise.
    public static let usualObjects = 1 << 20
    /// Octets kept unless said otherwise: 256 MiB.
    public static let usualOctets = 256 << 20

    /// What is kept unless said otherwise: a million objects, 256 MiB of them, of any age.
    public init(objects: Int? = usualObjects, octets: Int? = usualOctets, age: Duration? = nil) {
        self.objects = objects
        self.octets = octets
        self.age = age
    }
}
