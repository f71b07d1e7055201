/// Whether what a member loses is usually lost by most: near the root, or on a line that they share. Then a loss is repaired
/// on the flow as soon as the first reports it. To repair it for each of them instead would fill the same line, and lose more.
///
/// Two events make the share: a packet is reported for the first time, and most have reported it. A few liars bring about
/// the first alone, and do not move it.
struct SharedLoss: Sendable {
    /// Near a half when all losses are shared, as each is first counted as one that is not; 0 when none is.
    private var share = 0.0

    private static var weight: Double { 1 / 64 }
    /// A third of the losses are shared.
    private static var usual: Double { 1 / 4 }

    var isUsual: Bool { share >= Self.usual }

    /// A member has reported a packet that `missing` of `members` miss now.
    mutating func reported(missing: UInt32, of members: Int) {
        if missing == 1 { share -= share * Self.weight }
        if missing == Self.most(of: members) { share += (1 - share) * Self.weight }
    }

    /// Members that are most of them: two at least.
    static func most(of members: Int) -> UInt32 { UInt32(max(2, (members + 1) / 2)) }
}
