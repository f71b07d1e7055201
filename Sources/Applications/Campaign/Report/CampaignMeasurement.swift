// What a campaign came to: computed from its facts and from what its roles said, and from nothing else.

/// What was measured. Octets are of UDP payload, seconds count from the first item on.
package struct CampaignMeasurement: Codable, Equatable, Sendable {
    /// What the source sent.
    package struct Source: Codable, Equatable, Sendable {
        package var items = 0
        /// Octets of all items' documents.
        package var documentOctets = 0
        package var flowOctets = 0
        package var repairOctets = 0
        package var unicastOctets = 0
        package var controlOctets = 0
    }

    /// One moment of figure 2.
    package struct Sample: Codable, Equatable, Sendable {
        package var seconds = 0.0
        package var flowOctets = 0
        package var repairOctets = 0
        package var unicastOctets = 0
        package var controlOctets = 0
        /// Octets of the documents that were published by then.
        package var documentOctets = 0
    }

    /// How long items took from the source to a receiver, in milliseconds.
    package struct Latency: Codable, Equatable, Sendable {
        /// How many items: those that were published while the receiver was connected.
        package var count: Int
        package var median: Double
        package var percent95: Double
        package var percent99: Double
        package var largest: Double
        /// The most that all of them may be wrong by, since the hosts' clocks are known that well and no better.
        package var uncertainty: Double

        /// Whether the clocks are known too badly to tell the median from nothing.
        package var isVoid: Bool { median < 2 * uncertainty }
    }

    /// How items came for a while.
    package struct Span: Codable, Equatable, Sendable {
        package enum Way: String, Codable, Sendable, CaseIterable {
            case starting, multicast, amt, unicast, fallback, gone
        }

        package var way: Way
        package var begin: Double
        package var end: Double
    }

    /// What a receiver had.
    package struct Receiver: Codable, Equatable, Sendable {
        package var name: String
        package var host: String
        package var path: ReceiverPath
        /// Versions of items, each once.
        package var items = 0
        /// Of those that the source sent.
        package var missing = 0
        package var duplicates = 0
        /// Items that were not what the source sent.
        package var different = 0
        package var viaFlow = 0
        package var viaUnicast = 0
        package var viaMixed = 0
        package var fallbacks = 0
        package var returns = 0
        /// From its last word; nil when it had none.
        package var packetsLost: Int?
        package var repaired: Int?
        package var flowOctets: Int?
        package var unicastOctets: Int?
        package var latency: Latency?
        package var spans: [Span] = []
        /// Why it has not everything; nil also when it was ended on purpose.
        package var failure: String?
        /// It was ended on purpose, and not started again.
        package var isEndedOnPurpose = false

        package var isComplete: Bool { missing == 0 && duplicates == 0 && different == 0 && failure == nil }
    }

    /// What somebody who took part said of it. Nobody has verified it.
    package struct Unverified: Codable, Equatable, Sendable {
        /// As the source saw it.
        package var address: String
        package var reports: Int
        package var way: String
        package var items: Int
        package var packetsLost: Int
        package var fallbacks: Int
        /// Of the last report with items: milliseconds.
        package var median: Double?
        package var percent95: Double?
        package var uncertainty: Double?
    }

    /// More of those who report are not listed.
    static let mostUnverified = 10_000

    package var source = Source()
    package var samples: [Sample] = []
    package var receivers: [Receiver] = []
    /// Those who told the source of their reception (`receive --report`), in the order in which they did so first.
    package var unverified: [Unverified] = []
    /// How many receivers took the flow and have every item: what others would have cost on unicast is not known.
    package var listeners = 0
    /// Octets on a connection for each octet of the documents: seen at the receivers on unicast; 1 where there were none, which is
    /// less than it would be.
    package var unicastFactor = 1.0
    /// Whether `unicastFactor` was seen, not assumed.
    package var isFactorMeasured = false
    /// Octets that those who took the flow had on their connections besides.
    package var listenersUnicastOctets = 0

    /// What those who took the flow would have cost on connections of their own. Computed, not measured.
    package var listenersOnUnicastOctets: Int {
        Int((Double(source.documentOctets) * unicastFactor).rounded()) * listeners
    }

    /// How many times less flow and repair were than that; nil when there was no flow.
    package var saving: Double? {
        let sent = source.flowOctets + source.repairOctets
        return sent > 0 && listeners > 0 ? Double(listenersOnUnicastOctets) / Double(sent) : nil
    }

    /// Whether every receiver that was not ended on purpose has everything.
    package var isComplete: Bool {
        source.items > 0 && !receivers.isEmpty && receivers.allSatisfy { $0.isComplete || $0.isEndedOnPurpose }
    }
}

/// The value that `share` of all are not above (nearest rank).
func percentile(_ sorted: [Double], _ share: Double) -> Double {
    guard !sorted.isEmpty else { return 0 }
    let rank = Int((share * Double(sorted.count)).rounded(.up))
    return sorted[min(max(rank, 1), sorted.count) - 1]
}
