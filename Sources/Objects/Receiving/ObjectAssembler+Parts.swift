import Wire

extension ObjectAssembler {
    /// A part has come.
    /// - Parameters:
    ///   - header: what stands at the start of its stream; it is checked here.
    ///   - body: all octets behind it.
    ///   - stream: the number that its stream stands for; nil on a connection whose streams are numbered otherwise.
    ///   - way: which way it came.
    ///   - now: when it was all there.
    public mutating func receive(
        _ header: PartHeader, body: ArraySlice<UInt8>, stream: UInt64? = nil, via way: PartWay, at now: Instant
    ) -> PartAnswer {
        if let stream, stream != header.sequence {
            return partFailed(stream, .contradiction(.sequence, object: stream))
        }
        do {
            try header.check()
        } catch {
            if let stream { return partFailed(stream, error) }
            // Its numbers mean nothing, so that nothing can be settled by them.
            return failed(AssemblyFailure(object: header.object, name: header.name, reason: .malformed(error)))
        }
        return receiveChecked(header, body, way, now)
    }

    /// The same for a part that was read from its stream.
    public mutating func receive(
        _ part: Part, stream: UInt64? = nil, via way: PartWay, at now: Instant
    ) -> PartAnswer {
        if let stream, stream != part.sequence {
            return partFailed(stream, .contradiction(.sequence, object: stream))
        }
        return receiveChecked(part.header, part.body, way, now)
    }

    private mutating func receiveChecked(
        _ header: PartHeader, _ body: ArraySlice<UInt8>, _ way: PartWay, _ now: Instant
    ) -> PartAnswer {
        if settled.contains(header.sequence) {
            statistics.duplicates += 1
            return .duplicate
        }
        if let index = index(of: header.object) { return receive(header, body, for: index, way, now) }
        // What nearly all are: nothing is known that it could contradict.
        if tracked.isEmpty, header.count == 1, header.length == UInt64(body.count) {
            return receiveWhole(header, body, way, now)
        }
        return receiveFirst(header, body, way, now)
    }

    /// The same, for a body that is an array.
    public mutating func receive(
        _ header: PartHeader, body: [UInt8], stream: UInt64? = nil, via way: PartWay, at now: Instant
    ) -> PartAnswer {
        receive(header, body: body[...], stream: stream, via: way, at: now)
    }

    /// The stream with this number brought no part that can be read, or one that says another number: the object that the
    /// number belongs to cannot be whole. What the octets say of other objects is not believed.
    public mutating func partFailed(_ number: UInt64, _ error: ObjectsError) -> PartAnswer {
        guard number < ObjectLimits.sequences, !settled.contains(number) else {
            statistics.duplicates += 1
            return .duplicate
        }
        if let index = tracked.firstIndex(where: { $0.run.contains(number) && !$0.isEnded }) {
            return failed(end(index, .malformed(error)))
        }
        settle(number..<(number + 1))
        return failed(AssemblyFailure(object: number, name: nil, reason: .malformed(error)))
    }

    /// A part of an object that no part was tracked of.
    private mutating func receiveFirst(
        _ header: PartHeader, _ body: ArraySlice<UInt8>, _ way: PartWay, _ now: Instant
    ) -> PartAnswer {
        let object = TrackedObject(header)
        // Its first part is settled and it is not tracked: it was given up, or lies before where the receiver started.
        if settled.contains(object.first), mode == .whole || object.first >= resumedBelow { return ended(object) }
        if let problem = problem(header, body, object) {
            settleAlone(object.run)
            return failed(AssemblyFailure(object: object.first, name: header.name, reason: .malformed(problem)))
        }
        // While nobody tracks it, a number of it that is settled was told as a gap.
        if mode == .whole && settled.intersects(object.run) || isCutOff(object) {
            settle(object.run)
            return failed(AssemblyFailure(object: object.first, name: header.name, reason: .gap(nil)))
        }
        if header.count == 1 { return receiveWhole(header, body, way, now) }
        if tracked.count >= limits.objects {
            makePlace()
            // What had to go for it may have settled numbers of this object too.
            return receive(header, body: body, via: way, at: now)
        }
        let place = firstIndex(from: object.first)
        tracked.insert(object, at: place)
        return take(header, body, for: place, way, now)
    }

    /// The only part of an object, which says nothing of itself that is not so.
    private mutating func receiveWhole(
        _ header: PartHeader, _ body: ArraySlice<UInt8>, _ way: PartWay, _ now: Instant
    ) -> PartAnswer {
        count(body, way)
        settle(header.sequence..<(header.sequence + 1))
        statistics.objects += 1
        return .object(
            ReceivedObject(
                first: header.sequence, count: 1, name: header.name, mediaType: header.mediaType,
                published: header.published, body: body, octetsFromFlow: way.octetsFromFlow(of: body),
                latency: clock.latency(of: header.published, at: now)))
    }

    private mutating func receive(
        _ header: PartHeader, _ body: ArraySlice<UInt8>, for index: Int, _ way: PartWay, _ now: Instant
    ) -> PartAnswer {
        if tracked[index].isEnded {
            var object = tracked[index]
            object.learn(header)
            guard !overlaps(object) else {
                statistics.partsOfEnded += 1
                return .ended
            }
            if object.header.count != nil { tracked.remove(at: index) } else { tracked[index] = object }
            return ended(object)
        }
        if tracked[index].holds(header.index) {
            statistics.duplicates += 1
            return .duplicate
        }
        if let problem = problem(header, body, tracked[index]) {
            return failed(end(index, .malformed(problem)))
        }
        tracked[index].learn(header)
        if mode == .whole && settled.intersects(tracked[index].run) || isCutOff(tracked[index]) {
            return failed(end(index, .gap(nil)))
        }
        return take(header, body, for: index, way, now)
    }

    /// A part that fits an object that is tracked.
    private mutating func take(
        _ header: PartHeader, _ body: ArraySlice<UInt8>, for index: Int, _ way: PartWay, _ now: Instant
    ) -> PartAnswer {
        let first = tracked[index].first
        if mode == .parts {
            count(body, way)
            tracked[index].count(body, way)
            let object = tracked[index]
            settle(header.sequence..<(header.sequence + 1))
            if object.hasAllParts, let index = self.index(of: first) {
                tracked.remove(at: index)
                statistics.objects += 1
            } else if settled.contains(object.run), object.header.count != nil || settled.contains(object.end),
                let index = self.index(of: first)
            {
                // Nothing more comes, and not all came here. Of one that was begun before a restart the others may have been
                // given out then; else one of them was told as a gap.
                if first < resumedBelow { tracked.remove(at: index) } else { fail(index, .gap(nil)) }
            }
            return .part(
                ReceivedPart(
                    header: header, body: body, way: way, latency: clock.latency(of: header.published, at: now),
                    completes: object.hasAllParts))
        }
        let charge = body.count + TrackedObject.pieceOverhead
        if tracked[index].charge + charge > limits.octets || header.length ?? 0 > UInt64(limits.octets) {
            return failed(end(index, .tooLarge))
        }
        makeRoom(charge, for: first)
        // What had to go for it may have ended this object too.
        guard let index = self.index(of: first), !tracked[index].isEnded else {
            statistics.partsOfEnded += 1
            return .ended
        }
        count(body, way)
        tracked[index].count(body, way)
        tracked[index].hold(body, at: header.index)
        heldOctets += charge
        guard tracked[index].hasAllParts else { return .held }
        let object = tracked.remove(at: index)
        heldOctets -= object.charge
        settle(object.run)
        statistics.objects += 1
        return .object(
            ReceivedObject(
                first: first, count: object.received, name: object.header.name, mediaType: object.header.mediaType,
                published: object.header.published, body: object.joined()[...], octetsFromFlow: object.octetsFromFlow,
                latency: clock.latency(of: object.header.published, at: now)))
    }

    /// What is wrong with a part of `object`; nil when nothing is.
    private func problem(_ header: PartHeader, _ body: ArraySlice<UInt8>, _ object: TrackedObject) -> ObjectsError? {
        guard body.count <= ObjectLimits.partOctets else {
            return .tooLong(.part, limit: UInt64(ObjectLimits.partOctets))
        }
        if let field = object.contradiction(header, octets: body.count) {
            return .contradiction(field, object: object.first)
        }
        var grown = object
        grown.learn(header)
        return overlaps(grown) ? .contradiction(.sequence, object: object.first) : nil
    }

    /// Whether `object` has a number that is another's too, which cannot be.
    private func overlaps(_ object: TrackedObject) -> Bool {
        var next = firstIndex(from: object.first)
        if next > 0, tracked[next - 1].end > object.first { return true }
        if next < tracked.count, tracked[next].first == object.first { next += 1 }
        return next < tracked.count && tracked[next].first < object.end
    }

    private mutating func failed(_ failure: AssemblyFailure) -> PartAnswer {
        statistics.failures += 1
        return .failed(failure)
    }

    private mutating func ended(_ object: TrackedObject) -> PartAnswer {
        statistics.partsOfEnded += 1
        settleAlone(object.run)
        return .ended
    }

    private mutating func count(_ body: ArraySlice<UInt8>, _ way: PartWay) {
        statistics.parts += 1
        let fromFlow = way.octetsFromFlow(of: body)
        statistics.octetsFromFlow += fromFlow
        statistics.octetsFromConnection += UInt64(body.count) - fromFlow
    }
}
