/// Cuts a stream of octets into lines.
package struct LineSplitter {
    private var rest: [UInt8] = []
    private let longest: Int

    /// - Parameter longest: a longer line is given out in pieces, so that a writer gone mad does not fill the memory.
    package init(longest: Int = 1 << 20) { self.longest = longest }

    /// The lines that end in `bytes`, without their ends. The last one is kept until its end comes.
    package mutating func lines(adding bytes: some Sequence<UInt8>) -> [String] {
        var lines: [String] = []
        for byte in bytes {
            if byte == UInt8(ascii: "\n") || rest.count >= longest {
                lines.append(String(decoding: rest, as: UTF8.self))
                rest.removeAll(keepingCapacity: true)
            }
            if byte != UInt8(ascii: "\n") { rest.append(byte) }
        }
        return lines
    }
}
