import Feed
import FoundationEssentials
import Logging
import Reactor
import System

// What a store finds at its start.
extension ItemStore {
    private static func isItemName(_ name: String) -> Bool {
        name.utf8.count == 68 && name.hasSuffix(".xml")
            && name.utf8.prefix(64).allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }

    /// Finds the items that came last: those in `feed.atom`, and those noted as not in it yet.
    static func takeStock(
        _ directory: DurableDirectory, _ place: StoredPlace?, newest: Int, logger: Logger
    ) throws(FileError) -> (newest: [FeedItem], lastModified: Int64, feedIsStale: Bool) {
        let feed = try? directory.read(feedName, limit: FeedLimits.documentBytes)
        let inFeed = feed.flatMap { (try? FeedParser.parse($0))?.items }
        var arrivals: [(name: String, modified: Int64)] = []
        if let fresh = place?.unlisted, inFeed != nil || feed == nil && !fresh.isEmpty {
            for name in Set((inFeed ?? []).map { fileName(of: $0.id) }).union(fresh.filter(isItemName)) {
                if let status = try directory.status(of: name) { arrivals.append((name, status.modified)) }
            }
        } else {
            arrivals = try lookAtAll(directory, logger: logger)
        }
        arrivals.sort { ($0.modified, $0.name) > ($1.modified, $1.name) }
        var found: [FeedItem] = []
        for (name, _) in arrivals where found.count < newest {
            do {
                guard let bytes = try directory.read(name, limit: FeedLimits.itemBytes) else { continue }
                found.append(try FeedParser.parseEntry(bytes))
            } catch {
                logger.error("\(directory.path)/\(name) is not an item of ours and is left alone: \(error)")
            }
        }
        found = Array(found.prefix(fitting(found, count: newest)))
        return (found, arrivals.first?.modified ?? 0, found.map(\.ownContent) != (inFeed ?? []).map(\.ownContent))
    }

    /// Removes temporary files, and finds when each item's file was written.
    private static func lookAtAll(
        _ directory: DurableDirectory, logger: Logger
    ) throws(FileError) -> [(name: String, modified: Int64)] {
        var arrivals: [(name: String, modified: Int64)] = []
        for name in try fileNames(in: directory.path) {
            if name.hasPrefix(DurableDirectory.temporaryPrefix) {
                logger.info("removing \(directory.path)/\(name), which was not finished")
                try directory.remove(name)
            } else if isItemName(name), let status = try directory.status(of: name) {
                arrivals.append((name, status.modified))
            }
        }
        return arrivals
    }
}
