/// What one client has said of itself on its control stream, as the source keeps it. A second POSITION replaces the wants;
/// what it says of a position must not go back.
public struct StatedPosition: Sendable, Equatable {
    /// What the client wants now.
    public private(set) var wants: Wants
    private let epoch: Epoch
    /// The lowest position that it may still state; nil until it has stated one in the log's epoch.
    private var floor: UInt64?

    /// From the first POSITION, whose position was or was not taken by the log of `epoch`.
    public init(_ message: PositionMessage, in epoch: Epoch, isTaken: Bool) {
        wants = message.wants
        self.epoch = epoch
        floor = isTaken ? message.cursor.position : nil
    }

    /// A later POSITION: its wants replace those before. A position of another epoch, or of none, was written before the
    /// client knew of ours, and says nothing. Throws when the position went back.
    public mutating func replace(with message: PositionMessage) throws(ObjectsError) {
        if message.epoch == epoch {
            if let floor, message.cursor.position < floor {
                throw .positionWentBack(from: floor, to: message.cursor.position)
            }
            floor = message.cursor.position
        }
        wants = message.wants
    }
}
