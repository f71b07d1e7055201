import FoundationEssentials
import System

/// A line of a campaign's events: what a role said, as far as the report needs it.
struct CampaignEvent: Decodable, Equatable {
    /// When the role's host read it, by that host's clock, in nanoseconds since 1970.
    var readNs: Int64
    var event: String
    var id: String?
    var sha256: String?
    var bytes: Int?
    var via: String?
    var path: String?
    var latencyMs: Double?
    var bytesFlow: Int?
    var bytesRepair: Int?
    var bytesUnicast: Int?
    var bytesControl: Int?
    var packetsLost: Int?
    var repaired: Int?
    // Of what others report.
    var address: String?
    var way: String?
    var items: Int?
    var fallbacks: Int?
    var latencyItems: Int?
    var latencyP50Ms: Double?
    var latencyP95Ms: Double?
    var clockUncertaintyMs: Double?

    /// The events of a role, in order. A last line that was cut off is left out.
    static func read(_ folder: String, role: String) throws(SystemError) -> [CampaignEvent] {
        let path = "\(folder)/\(CampaignFolder.events(of: role))"
        let data = try saying("read \(path)") { try Data(contentsOf: URL(filePath: path)) }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return data.split(separator: UInt8(ascii: "\n")).compactMap { line in
            try? decoder.decode(CampaignEvent.self, from: Data(line))
        }
    }
}
