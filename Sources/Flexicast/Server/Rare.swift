/// A value that few have, or that is there for a short while: where there is none, it takes the room of a reference.
@propertyWrapper
struct Rare<Value: Sendable>: Sendable {
    /// None or one.
    private var held: [Value] = []

    var wrappedValue: Value? {
        get { held.first }
        set {
            switch (newValue, held.isEmpty) {
            case (nil, _): held = []
            case (let value?, true): held = [value]
            case (let value?, false): held[0] = value
            }
        }
    }
}
