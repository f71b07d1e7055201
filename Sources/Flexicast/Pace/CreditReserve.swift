import Wire

/// What a member's flow control credit (RFC 9000 section 4) must cover: what the flow sends while new credit is on its way.
/// Who has less left leaves before it runs dry.
enum CreditReserve {
    /// Of a member that has not been measured.
    static var firstRoundTrip: Duration { .milliseconds(100) }

    /// How much of `credit`, octets or streams, is kept back when the flow takes `perSecond` of them. Never more than an
    /// eighth of it: a receiver renews its credit when half of it is spent, and one with a small window has less than three
    /// round trips' worth left before the new arrives. It stays as long as it renews it in time.
    static func units(of credit: UInt64, perSecond: UInt64, for time: Duration) -> UInt64 {
        let wanted = Double(perSecond) * Double(time.nanoseconds) / 1e9
        return min(credit / 8, UInt64(min(wanted, 1e18)))
    }
}
