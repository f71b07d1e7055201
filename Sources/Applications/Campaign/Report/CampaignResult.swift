import FoundationEssentials
import System

/// What `result.json` holds: what a campaign was, and what it came to.
package struct CampaignResult: Codable, Equatable, Sendable {
    package var facts: CampaignFacts
    /// Computed from the facts and the events, and computed anew with each report.
    package var measurement: CampaignMeasurement

    private static let decoder: JSONDecoder = {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return decoder
    }()

    init(facts: CampaignFacts, measurement: CampaignMeasurement) {
        self.facts = facts
        self.measurement = measurement
    }

    /// Reads a campaign's folder.
    /// - Throws: when it is none.
    package init(folder: String) throws {
        let path = "\(folder)/\(CampaignFolder.result)"
        let data = try saying("read \(path)") { try Data(contentsOf: URL(filePath: path)) }
        do {
            self = try Self.decoder.decode(CampaignResult.self, from: data)
        } catch { throw CampaignProblem("\(path) is no campaign's result: \(error)") }
        guard facts.format == 1 else { throw CampaignProblem("\(path) is of a later version of this program") }
    }

    /// Makes the report, the tables and `result.json` of what was kept in a folder.
    package static func write(_ facts: CampaignFacts, folder: String) throws -> CampaignResult {
        var events: [String: [CampaignEvent]] = [:]
        for role in facts.roles { events[role.name] = try CampaignEvent.read(folder, role: role.name) }
        var arrivals: [Arrival] = []
        let measurement = CampaignMeasurement(facts, events: events, arrivals: &arrivals)
        let result = CampaignResult(facts: facts, measurement: measurement)
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        var files: [(name: String, data: Data)] = [(CampaignFolder.result, try encoder.encode(result))]
        files.append((CampaignFolder.report, Data(CampaignPage(result: result).html.utf8)))
        for (name, text) in CampaignTables(facts: facts, measurement: measurement, arrivals: arrivals).files {
            files.append((name, Data(text.utf8)))
        }
        for (name, data) in files {
            let path = "\(folder)/\(name)"
            try saying("write \(path)") { try data.write(to: URL(filePath: path), options: .atomic) }
        }
        return result
    }

    /// Makes the report of a folder anew.
    package static func renew(folder: String) throws -> CampaignResult {
        try write(CampaignResult(folder: folder).facts, folder: folder)
    }
}

/// Why a campaign's folder is of no use.
package struct CampaignProblem: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}
