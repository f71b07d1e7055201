import FoundationEssentials
import System

/// What a campaign was: written as it ends, and read again when its report is made anew. Times are nanoseconds since 1970, by the
/// clock of the machine that ran it.
package struct CampaignFacts: Codable, Equatable, Sendable {
    /// A machine.
    package struct Host: Codable, Equatable, Sendable {
        package var name: String
        /// As ssh was given it; nil is the machine that ran the campaign.
        package var destination: String?
        package var facts: HostFacts?
        /// How the program came to be there.
        package var installation: String
        package var clock: ClockEstimate?
        /// Why it took no part, or no longer.
        package var failure: String?
    }

    /// A process.
    package struct Role: Codable, Equatable, Sendable {
        package enum Kind: String, Codable, Sendable { case source, relay, receiver }

        package var name: String
        package var kind: Kind
        package var host: String
        /// Of a receiver.
        package var path: ReceiverPath?
        /// Why it did not do what it was there for.
        package var failure: String?
        /// A fault has ended it, and it was not started again.
        package var isEndedOnPurpose = false
        /// Its exit status, or less than 0 the signal that ended it; nil when nobody saw its end.
        package var status: Int32?
        package var processorMilliseconds = 0
        package var memoryOctets = 0
    }

    /// Something that went wrong on purpose.
    package struct Fault: Codable, Equatable, Sendable {
        package var title: String
        package var began: Int64
        package var failure: String?
    }

    /// Of this file.
    package var format = 1
    package var name: String
    /// What made it: the program here.
    package var version: String
    package var began: Int64
    /// When the first item was published; nil when none was.
    package var sendingBegan: Int64?
    package var sendingEnded: Int64?
    package var ended: Int64
    package var isInterrupted: Bool
    /// Why there is nothing, or less than was planned.
    package var failure: String?
    package var group: String?
    package var relayAddress: String?
    package var hosts: [Host]
    package var roles: [Role]
    package var faults: [Fault]
    package var notes: [String]
    package var plan: String

    /// A time as seconds since the first item.
    func seconds(_ time: Int64) -> Double { Double(time - (sendingBegan ?? began)) / 1e9 }
}

/// The names of what is in a campaign's folder.
package enum CampaignFolder {
    static let result = "result.json"
    static let report = "report.html"
    static let plan = "plan.yaml"
    static let events = "events"
    static let logs = "logs"

    /// Where what a role says is kept.
    static func events(of role: String) -> String { "\(events)/\(role).jsonl" }
    /// Where its log is kept.
    static func log(of role: String) -> String { "\(logs)/\(role).log" }
}

/// A file of a campaign's folder that grows line by line. A disk that is full is told once; the run goes on.
final class LineFile {
    private let file: OpenFile?
    private(set) var failure: String?

    init(_ path: String) {
        do throws(SystemError) {
            file = try OpenFile(creating: path)
        } catch {
            file = nil
            failure = error.description
        }
    }

    func write(_ line: String) {
        guard failure == nil, let file else { return }
        do throws(SystemError) { try file.write(Array((line + "\n").utf8)) } catch { failure = error.description }
    }
}
