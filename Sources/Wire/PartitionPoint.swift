extension Range where Bound: FixedWidthInteger {
    /// The lowest number of the range for which `isBefore` does not hold, or its upper bound when it holds for all: a binary
    /// search, for what is sorted. `isBefore` must hold for every number below one for which it holds.
    @inlinable
    @inline(__always)
    public func partitionPoint(_ isBefore: (Bound) -> Bool) -> Bound {
        var low = lowerBound
        var high = upperBound
        while low < high {
            let middle = low + (high - low) / 2
            if isBefore(middle) { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
