import Objects
import QUIC
import Wire

extension StreamID {
    /// The client's first bidirectional stream, on which the two ends talk of positions and gaps (docs/objects.md).
    static var control: StreamID { StreamID(initiator: .client, bidirectional: true, index: 0) }
}

// What a receiver says of where it is in the log, and what it is told.
extension FlowServer {
    /// Octets of a connection's room that telling a gap counts for.
    static var gapCost: Int { 32 }
    /// Octets of messages that may wait on a receiver's control stream, those on their way among them. Who leaves more
    /// untaken is handed no part.
    static var controlOctets: Int { 16 << 10 }

    mutating func controlReceived<C: ReceiverConnection & ~Copyable>(
        _ slot: Int, _ id: StreamID, on connection: inout C, at now: Instant
    ) {
        guard id == .control, seats[slot].isConnected, let chunk = connection.read(id) else { return }
        var decoder = seats[slot].decoder ?? ControlDecoder(from: .client)
        // Between two messages there is nothing to remember.
        defer { seats[slot].decoder = decoder.isAtRest ? nil : decoder }
        do throws(ObjectsError) {
            var reader = ByteReader(chunk.bytes.span)
            while let message = try decoder.next(from: &reader) {
                switch message {
                case .position(let position): try positionReceived(slot, position, at: now)
                case .report(let report): reportReceived(slot, report, at: now)
                // The decoder lets nothing else through from a client.
                default: continue
                }
            }
            if chunk.isFinished {
                try decoder.finish()
                // It says no more.
                guard case .stated = seats[slot].position else { throw .controlUnopened(.position) }
            }
        } catch {
            breakControl(slot, error, on: &connection, at: now)
            return
        }
        touch(slot)
    }

    /// The control stream broke a rule: its connection ends, and nothing of it is looked at any more.
    mutating func breakControl<C: ReceiverConnection & ~Copyable>(
        _ slot: Int, _ error: ObjectsError, on connection: inout C, at now: Instant
    ) {
        guard seats[slot].isConnected else { return }
        controlErrors += 1
        connection.close(applicationCode: error.code.rawValue, reason: "control stream: \(error)", at: now)
        closed(slot, at: now)
    }

    /// What a receiver says of its reception is passed on, if it does not say so too often; nothing else comes of it.
    private mutating func reportReceived(_ slot: Int, _ report: ReportMessage, at now: Instant) {
        guard now >= seats[slot].reportDue ?? now, reportBudget.take(seats[slot].payer, at: now) else {
            reportsIgnored += 1
            return
        }
        seats[slot].reportDue = now + ReportBudget.pause
        tell(.reported(id(of: slot), report))
    }

    private mutating func positionReceived(
        _ slot: Int, _ message: PositionMessage, at now: Instant
    ) throws(ObjectsError) {
        if case .stated(var stated) = seats[slot].position {
            try stated.replace(with: message)
            seats[slot].position = .stated(stated)
            return
        }
        let (answer, cursor) = log.answer(
            message, newcomersFrom: log.first(ofNewest: configuration.history), at: wallTime(at: now))
        // Up to here it may lack something; from here on it is sent everything already, or will be.
        let end = seats[slot].servedFrom ?? log.next
        var next = cursor.position
        while let run = cursor.nextRun(from: next, below: end) {
            addUngiven(slot, run)
            next = run.upperBound
        }
        serveFromNow(slot)
        seats[slot].firstPart = min(seats[slot].firstPart, cursor.position)
        seats[slot].settledBefore = cursor.end > seats[slot].firstPart ? cursor : nil
        seats[slot].position = .stated(
            StatedPosition(message, in: log.epoch, isTaken: answer.answer == .taken))
        seats[slot].clockDue = now + configuration.clockInterval
        say(slot, .log(answer))
        seats[slot].cursor.takeUpUntold()
        tell(.stated(id(of: slot), answer.answer, first: answer.first))
    }

    /// It gets what was published since it connected, and everything from then on.
    mutating func positionNotStated(_ slot: Int, at now: Instant) {
        guard case .awaited(let first) = seats[slot].position, seats[slot].isConnected else { return }
        serveFromNow(slot)
        if let end = seats[slot].servedFrom, first < end { addUngiven(slot, first..<end) }
        seats[slot].servedFrom = first
        seats[slot].position = .unstated
        seats[slot].firstPart = first
        tell(.saidNothing(id(of: slot)))
        touch(slot)
    }

    /// It gets what is published from now on, unless it did before: on the flow, or from its cursor since it left.
    private mutating func serveFromNow(_ slot: Int) {
        guard seats[slot].servedFrom == nil else { return }
        seats[slot].servedFrom = log.next
        seats[slot].cursor.follow(from: log.next)
    }

    /// Has these sent, but for those that it was given before it said where it is.
    private mutating func addUngiven(_ slot: Int, _ range: Range<UInt64>) {
        let before = seats[slot].cursor.sentAgain
        var next = range.lowerBound
        let given = seats[slot].given ?? Cursor()
        while let run = given.nextRun(from: next, below: range.upperBound) {
            seats[slot].cursor.add(run, isCharged: false)
            next = run.upperBound
        }
        countSentAgain(seats[slot].cursor.sentAgain - before)
    }

    /// Nothing will come for these numbers. A receiver that has not stated its position has no use for them yet.
    mutating func tellGap(_ slot: Int, _ gap: Gap) {
        guard case .stated = seats[slot].position else {
            let before = seats[slot].cursor.sentAgain
            seats[slot].cursor.putOff(gap.range)
            countSentAgain(seats[slot].cursor.sentAgain - before)
            return
        }
        seats[slot].cursor.drop(gap.range)
        if gap.reason == .retention || gap.reason == .lifetime {
            countGone(gap)
            tell(.told(id(of: slot), gap))
        }
        say(slot, .gap(gap))
    }

    /// Tells the source's clock and the live edge again, now and then: not before all that was said is taken.
    mutating func tellClock<C: ReceiverConnection & ~Copyable>(
        _ slot: Int, on connection: borrowing C, at now: Instant
    ) {
        guard now >= seats[slot].clockDue, untaken(slot, on: connection) == 0 else { return }
        seats[slot].clockDue = now + configuration.clockInterval
        say(
            slot,
            .log(
                LogMessage(
                    epoch: log.epoch, now: wallTime(at: now), oldest: log.oldest, next: log.next, answer: .taken,
                    first: log.next)))
    }

    /// Octets of messages that the receiver has not taken.
    func untaken<C: ReceiverConnection & ~Copyable>(_ slot: Int, on connection: borrowing C) -> Int {
        seats[slot].messages.count + connection.heldOctets(of: .control)
    }

    /// Writes what was said on the receiver's control stream.
    mutating func writeMessages<C: ReceiverConnection & ~Copyable>(_ slot: Int, on connection: inout C) {
        guard !seats[slot].messages.isEmpty else { return }
        // What the connection has no room for stays here: `.writable` and `.streamSent` have the receiver served again.
        guard (try? connection.write(.control, StreamOctets(seats[slot].messages), fin: false)) != nil else { return }
        seats[slot].messages = []
    }

    /// Has a message written on the control stream of a receiver, which has stated its position there.
    private mutating func say(_ slot: Int, _ message: ControlMessage) {
        do {
            seats[slot].messages += try message.encoded()
        } catch { preconditionFailure("a message of our own is malformed: \(error)") }
    }
}

extension ControlDecoder {
    /// No message has begun that is not all there.
    fileprivate var isAtRest: Bool { (try? finish()) != nil }
}
