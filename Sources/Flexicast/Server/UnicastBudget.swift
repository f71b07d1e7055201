import Wire

/// What may leave on receivers' connections, and whose turn it is: when a whole tree fails, everybody who was on the flow
/// has to be sent the same at once, and without a bound the source's own way out would fail too.
///
/// Octets are those of parts and of repairs when they are handed to connections. What waits in a cursor waits for its
/// receiver's turn; repairs do not wait, and what they take is taken from the turns that follow. Cursors have nine tenths
/// of the rate, so that handshakes and repairs find room.
///
/// Turns go round the accounts that have receivers waiting (deficit round robin), and within an account round its
/// receivers: an account of a hundred receivers has no more than one of one. An account has one turn at a time. Every step
/// takes constant time, and there is an entry for each receiver and for each account that has one waiting.
///
///     wait ──> turns of its account ──beginTurn──> turn ──endTurn──> (waits again)
struct UnicastBudget: Sendable {
    private enum State: Sendable {
        case idle
        case waits
        /// May be handed so many octets.
        case turn(Int)
    }

    private struct Receiver: Sendable {
        var state = State.idle
        var account = 0
    }

    private struct Account: Sendable {
        var key: FlowAccount
        /// Receivers that wait.
        var waiting = LinkedQueue()
        /// Octets that its last turn left over, while it has more to be sent.
        var deficit = 0
        /// Its next turn is of what the last left over, and comes first: that was of a receiver that had no use for more.
        var goesOn = false
        /// Octets of the turn that it has.
        var granted = 0
        var hasTurn = false
        /// Stands in `round`.
        var isInRound = false
    }

    /// What gathers at most while nothing is sent.
    static var burst: Duration { .milliseconds(100) }
    /// What gathers before turns begin again after the wait for it, so that a fast source is not woken for every part.
    static var step: Duration { .milliseconds(1) }
    /// Of the rate, what cursors have.
    static var cursorTenths: Int64 { 9 }

    /// Octets of a turn.
    let quantum: Int
    private var all: OctetReservoir
    private var cursors: OctetReservoir
    /// By slot.
    private var receivers: [Receiver] = []
    private var receiverLinks = QueueLinks()
    private var accounts: [Account] = []
    private var accountLinks = QueueLinks()
    private var places: [FlowAccount: Int] = [:]
    private var free: [Int] = []
    /// Accounts whose turn comes.
    private var round = LinkedQueue()

    /// Receivers that wait for their turn.
    private(set) var waitingCount = 0
    /// Octets that were handed to connections.
    private(set) var octetsSpent: UInt64 = 0

    /// - Parameters:
    ///   - rate: bits per second.
    ///   - largestPart: octets. A turn is as large, so that each gets somebody on.
    init(rate: UInt64, largestPart: Int, at now: Instant) {
        precondition(rate > 0 && largestPart > 0)
        quantum = largestPart
        let rate = Int64(clamping: min(rate, 1 << 50))
        // A turn may be of what the last left over as well.
        all = OctetReservoir(rate: rate, burst: Self.burst, least: 2 * largestPart, at: now)
        cursors = OctetReservoir(
            rate: max(1, rate * Self.cursorTenths / 10), burst: Self.burst, least: 2 * largestPart, at: now)
    }

    /// Octets that leave at once at most after a pause.
    var burstOctets: Int { all.most }

    /// Accounts that have a receiver waiting, or a turn.
    var accountCount: Int { places.count }

    // MARK: Turns

    /// The receiver has something to be sent; nothing happens if it waits already, or if it is its turn.
    mutating func wait(_ slot: Int, account key: FlowAccount) {
        while receivers.count <= slot { receivers.append(Receiver()) }
        guard case .idle = receivers[slot].state else { return }
        let place = enter(key)
        receivers[slot] = Receiver(state: .waits, account: place)
        receiverLinks.append(slot, to: &accounts[place].waiting)
        waitingCount += 1
        joinRound(place)
    }

    /// Whose turn begins, if one may begin now.
    mutating func beginTurn(at now: Instant) -> Int? {
        guard let place = round.first else { return nil }
        let octets = nextOctets(place)
        all.refill(at: now)
        cursors.refill(at: now)
        guard all.holds(octets), cursors.holds(octets) else { return nil }
        all.reserve(octets)
        cursors.reserve(octets)
        accountLinks.remove(place, from: &round)
        accounts[place].isInRound = false
        accounts[place].hasTurn = true
        accounts[place].granted = octets
        guard let slot = accounts[place].waiting.first else { preconditionFailure("an account whose turn is nobody's") }
        receiverLinks.remove(slot, from: &accounts[place].waiting)
        waitingCount -= 1
        receivers[slot].state = .turn(octets)
        return slot
    }

    /// Octets that the receiver may be handed; nil when it is not its turn.
    func allowance(_ slot: Int) -> Int? {
        guard slot < receivers.count, case .turn(let octets) = receivers[slot].state else { return nil }
        return octets
    }

    /// The receiver has been handed these in its turn.
    mutating func spend(_ slot: Int, _ octets: Int) {
        guard let left = allowance(slot) else { preconditionFailure("it is not the receiver's turn") }
        let reserved = min(left, octets)
        receivers[slot].state = .turn(left - reserved)
        octetsSpent += UInt64(octets)
        all.spend(octets, reserved: reserved)
        cursors.spend(octets, reserved: reserved)
    }

    /// The receiver's turn is over. With `isWanting` it goes on waiting, behind the others.
    mutating func endTurn(_ slot: Int, isWanting: Bool) {
        guard let left = allowance(slot) else { return }
        all.release(left)
        cursors.release(left)
        let place = receivers[slot].account
        accounts[place].hasTurn = false
        if isWanting {
            receivers[slot].state = .waits
            // What is left over of another's turn may be too little: then it has had none.
            if accounts[place].goesOn, left == accounts[place].granted {
                receiverLinks.prepend(slot, to: &accounts[place].waiting)
            } else {
                receiverLinks.append(slot, to: &accounts[place].waiting)
            }
            waitingCount += 1
        } else {
            receivers[slot].state = .idle
        }
        // What the account does not use because it has nothing to be sent is lost to it.
        accounts[place].deficit = accounts[place].waiting.first == nil ? 0 : min(left, quantum)
        accounts[place].goesOn = !isWanting && accounts[place].deficit > 0
        joinRound(place)
    }

    /// The receiver has nothing to be sent any more, or is gone.
    mutating func leave(_ slot: Int) {
        guard slot < receivers.count else { return }
        switch receivers[slot].state {
        case .idle: return
        case .turn: endTurn(slot, isWanting: false)
        case .waits:
            let place = receivers[slot].account
            receiverLinks.remove(slot, from: &accounts[place].waiting)
            waitingCount -= 1
            receivers[slot].state = .idle
            guard accounts[place].waiting.first == nil, !accounts[place].hasTurn else { return }
            accountLinks.remove(place, from: &round)
            accounts[place].isInRound = false
            forget(place)
        }
    }

    /// These have left without a turn.
    mutating func charge(_ octets: Int, at now: Instant) {
        all.refill(at: now)
        octetsSpent += UInt64(octets)
        all.spend(octets, reserved: 0)
    }

    /// When a turn may begin; `distantFuture` when nobody waits for one.
    var nextTurn: Instant {
        guard let place = round.first else { return .distantFuture }
        let octets = nextOctets(place)
        return max(all.time(of: octets, step: Self.step), cursors.time(of: octets, step: Self.step))
    }

    // MARK: Accounts

    private mutating func enter(_ key: FlowAccount) -> Int {
        if let place = places[key] { return place }
        let place: Int
        if let last = free.popLast() {
            place = last
            accounts[place] = Account(key: key)
        } else {
            place = accounts.count
            accounts.append(Account(key: key))
        }
        places[key] = place
        return place
    }

    private mutating func joinRound(_ place: Int) {
        guard !accounts[place].hasTurn, !accounts[place].isInRound else { return }
        guard accounts[place].waiting.first != nil else { return forget(place) }
        accounts[place].isInRound = true
        if accounts[place].goesOn {
            accountLinks.prepend(place, to: &round)
        } else {
            accountLinks.append(place, to: &round)
        }
    }

    /// Octets of the account's next turn.
    private func nextOctets(_ place: Int) -> Int { accounts[place].deficit + (accounts[place].goesOn ? 0 : quantum) }

    private mutating func forget(_ place: Int) {
        places[accounts[place].key] = nil
        free.append(place)
    }
}

/// Octets that gather at a rate, up to a burst, and may be reserved before they are spent. Exact: in billionths of a bit.
private struct OctetReservoir: Sendable {
    private static var octet: Int128 { 8_000_000_000 }

    private let rate: Int64
    private let burst: Int128
    /// Negative while more was spent than there was.
    private var level: Int128
    /// Taken from `level` for turns that have begun.
    private var reserved: Int128 = 0
    private var updatedAt: Instant

    init(rate: Int64, burst: Duration, least: Int, at now: Instant) {
        self.rate = rate
        self.burst = max(Int128(rate) * Int128(burst.nanoseconds), Int128(least) * Self.octet)
        level = self.burst
        updatedAt = now
    }

    var most: Int { Int(burst / Self.octet) }

    mutating func refill(at now: Instant) {
        guard now > updatedAt else { return }
        level = min(burst - reserved, level + Int128(rate) * Int128((now - updatedAt).nanoseconds))
        updatedAt = now
    }

    func holds(_ octets: Int) -> Bool { level >= Int128(octets) * Self.octet }

    mutating func reserve(_ octets: Int) {
        level -= Int128(octets) * Self.octet
        reserved += Int128(octets) * Self.octet
    }

    mutating func spend(_ octets: Int, reserved part: Int) {
        reserved -= Int128(part) * Self.octet
        level -= Int128(octets - part) * Self.octet
    }

    mutating func release(_ octets: Int) {
        reserved -= Int128(octets) * Self.octet
        level += Int128(octets) * Self.octet
    }

    /// When it holds as much, and what gathers in `step` if that is more.
    func time(of octets: Int, step: Duration) -> Instant {
        let aim = max(Int128(octets) * Self.octet, Int128(rate) * Int128(step.nanoseconds))
        guard level < aim else { return updatedAt }
        let wait = (aim - level + Int128(rate) - 1) / Int128(rate)
        return updatedAt + .nanoseconds(Int64(clamping: min(wait, 1 << 60)))
    }
}

/// A queue of numbers whose links are kept in `QueueLinks`.
private struct LinkedQueue: Sendable {
    var first: Int?
    var last: Int?
}

/// The links of queues that a number stands in at most one of, by number: any may leave in constant time.
private struct QueueLinks: Sendable {
    private var links: [(before: Int?, after: Int?)] = []

    mutating func append(_ number: Int, to queue: inout LinkedQueue) {
        while links.count <= number { links.append((nil, nil)) }
        links[number] = (queue.last, nil)
        if let last = queue.last { links[last].after = number } else { queue.first = number }
        queue.last = number
    }

    mutating func prepend(_ number: Int, to queue: inout LinkedQueue) {
        while links.count <= number { links.append((nil, nil)) }
        links[number] = (nil, queue.first)
        if let first = queue.first { links[first].before = number } else { queue.last = number }
        queue.first = number
    }

    mutating func remove(_ number: Int, from queue: inout LinkedQueue) {
        let (before, after) = links[number]
        if let before { links[before].after = after } else { queue.first = after }
        if let after { links[after].before = before } else { queue.last = before }
    }
}
