// Texts of the command line as values. Each refusal says what was read and what would be accepted.
import ArgumentParser
import Feeds
import Operation
import Reactor
import Wire

/// Why a piece of the command line is not what it should be.
struct ArgumentProblem: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// `5s`, `250ms`, `1.5m`, `2h`: a decimal number and a unit, greater than zero.
func parseDuration(_ text: String) throws -> Duration {
    do { return try readDuration(text) } catch { throw ArgumentProblem(error.description) }
}

/// `--ack-delay auto|DURATION`.
enum AcknowledgementDelay: Equatable {
    case auto
    case fixed(Duration)

    init(_ text: String) throws {
        if text == "auto" {
            self = .auto
        } else if let delay = try? parseDuration(text), delay <= .seconds(10) {
            self = .fixed(delay)
        } else {
            throw ArgumentProblem("write auto, or a duration of at most 10s such as 25ms")
        }
    }
}

/// `50M`, `2.5G`, `800k` or plain bits per second; factors are decimal.
func parseRate(_ text: String) throws -> UInt64 {
    let number = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    let factors: [Substring: Double] = ["": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9]
    guard let factor = factors[text[number.endIndex...]], let value = Double(number) else {
        throw ArgumentProblem("not a rate; write bits per second, with k, M or G if you like, such as 50M")
    }
    let bits = (value * factor).rounded()
    guard bits >= 1000, bits <= 1e12 else {
        throw ArgumentProblem("a rate must be between 1k and 1000G bits per second")
    }
    return UInt64(bits)
}

/// `192.0.2.1:4433`, `[2001:db8::1]:4433`; `:4433` alone is every address of the machine, of IPv4 and IPv6.
func parseListenAddress(_ text: String) throws -> SocketAddress {
    let every = NetworkInterface.everyAddress
    if let address = SocketAddress(text.hasPrefix(":") ? (every.isIPv4 ? "0.0.0.0" : "[::]") + text : text) {
        guard !address.address.isMulticast else {
            throw ArgumentProblem(
                "\(address.address) is a multicast group; receivers connect to an address of this machine")
        }
        return address
    }
    throw ArgumentProblem("write ADDRESS:PORT, such as :4433, 0.0.0.0:4433 or [2001:db8::1]:4433")
}

/// Where pages are served: as above, or `-`.
func parsePagesAddress(_ text: String) throws -> ListeningPlace {
    text == "-" ? .standardInput : .address(try parseListenAddress(text))
}

/// Where something is sent: as above, but `:5000` alone is this machine.
func parseTarget(_ text: String) throws -> SocketAddress {
    try parseListenAddress(text.hasPrefix(":") ? "127.0.0.1" + text : text)
}

/// `232.1.2.3:5000` or `[ff3e::1]:5000`.
func parseGroup(_ text: String) throws -> SocketAddress {
    guard let group = SocketAddress(text) else {
        throw ArgumentProblem("write GROUP:PORT, such as 239.1.2.3:5000 or [ff3e::8000:1]:5000")
    }
    guard group.address.isMulticast else {
        throw ArgumentProblem(
            "\(group.address) is not a multicast address; 224.0.0.0 to 239.255.255.255 and ff00::/8 are")
    }
    guard group.port != 0 else { throw ArgumentProblem("a group needs a port from 1 to 65535") }
    return group
}

/// `example.org:4433`, `192.0.2.1:4433`, `[2001:db8::1]:4433`.
struct ServerName: Equatable {
    var host: String
    var port: UInt16

    init(_ text: String) throws {
        if let address = SocketAddress(text) {
            host = address.address.description
            port = address.port
        } else if let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]),
            Self.isHostName(text[..<colon])
        {
            host = String(text[..<colon])
            self.port = port
        } else {
            throw ArgumentProblem("write HOST:PORT, such as example.org:4433, 192.0.2.1:4433 or [2001:db8::1]:4433")
        }
        guard port != 0 else { throw ArgumentProblem("port 0 cannot be connected to; a port is 1 to 65535") }
    }

    /// Letters, digits, hyphens and dots (RFC 1123 section 2.1); all digits and dots would be a mistyped address.
    private static func isHostName(_ text: Substring) -> Bool {
        guard (1...253).contains(text.utf8.count), text.contains(where: \.isLetter) else { return false }
        return text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
            (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
                && label.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-") }
        }
    }
}

/// One or several of them, with commas between: `a.example:4433,b.example:4433`.
struct ServerNames: Equatable {
    var first: ServerName
    var others: [ServerName]

    init(_ text: String) throws {
        let names = try text.split(separator: ",", omittingEmptySubsequences: false).map { try ServerName(String($0)) }
        // Split gives one piece at least.
        (first, others) = (names[0], Array(names.dropFirst()))
        for (index, name) in names.enumerated() where names[..<index].contains(name) {
            throw ArgumentProblem("\(name.host):\(name.port) is given twice; give each source once")
        }
    }
}

/// `--path auto|multicast|amt|unicast`.
func parsePath(_ text: String) throws -> PathChoice {
    if let path = PathChoice(rawValue: text) { return path }
    throw ArgumentProblem("write auto, multicast, amt or unicast")
}

/// A directory, or `-` for standard output.
func parseOutput(_ text: String) throws -> OutputChoice {
    if text.isEmpty { throw ArgumentProblem("write a directory, or - for standard output") }
    return text == "-" ? .standardOutput : .directory(text)
}

/// An integer in `range`, `what` being its unit.
func parseInteger(in range: ClosedRange<Int>, _ what: String) -> @Sendable (String) throws -> Int {
    { text in
        guard let number = Int(text), range.contains(number) else {
            throw ArgumentProblem("write \(what) from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }
}
