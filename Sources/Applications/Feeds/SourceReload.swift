import Logging
import Transport

/// What a source is to be from now on.
package struct SourceReload: Sendable {
    package var options: SourceOptions
    /// Options that were changed and take a restart.
    package var unchangeable: [String]

    package init(options: SourceOptions, unchangeable: [String]) {
        self.options = options
        self.unchangeable = unchangeable
    }
}

/// A configuration that cannot be used: the one before stays in force.
package struct ReloadRefusal: Error, CustomStringConvertible {
    /// All that is wrong with it.
    package var problems: [String]

    package init(problems: [String]) { self.problems = problems }
    package var description: String { problems.joined(separator: "\n") }
}

/// What SIGHUP does at a source. Nobody who is connected notices.
struct SourceReloader {
    let broadcaster: Broadcaster
    let certificate: CertificateWatch
    let feeds: SourceFeeds
    /// Reads everything again; nil when there is only the certificate to be read again.
    let read: (() throws -> SourceReload)?
    /// File of those who may receive, read again too.
    let access: String?
    /// Publishes what was recorded and may not have been.
    let publish: ([Publication.Document]) -> Void
    let log: Logger

    /// - Returns: the options that hold now; nil when they are those from before.
    func reload() -> SourceOptions? {
        guard let read else {
            certificate.reload()
            return nil
        }
        let new: SourceReload
        let allowed: AccessList?
        do {
            new = try read()
            allowed = try access.map { try AccessList(file: $0) }
            for feed in new.options.feeds { _ = try FeedLocation(feed) }
        } catch {
            for problem in (error as? ReloadRefusal)?.problems ?? ["\(error)"] {
                log.error("the configuration stays as it was", metadata: ["reason": "\(problem)"])
            }
            return nil
        }
        let options = new.options
        guard certificate.reload(options.certificate) else { return nil }
        broadcaster.use(options.limits)
        if let allowed { broadcaster.use(allowed) }
        feeds.poll(every: options.pollInterval)
        feeds.keep(only: options.feeds)
        do {
            publish(try feeds.add(options.feeds))
        } catch { log.error("a feed is left out", metadata: ["reason": "\(error)"]) }
        if !new.unchangeable.isEmpty {
            log.warning(
                "some options take a restart", metadata: ["options": "\(new.unchangeable.joined(separator: ", "))"])
        }
        log.notice("the configuration was read again")
        return options
    }
}

extension SourceOptions {
    var limits: BroadcastLimits {
        BroadcastLimits(
            connections: connections, connectionsPerAddress: connectionsPerAddress, rate: flow.rate,
            rateFloor: flow.rateFloor, history: givenHistory)
    }

    /// Of whole feeds only the newest is of use.
    var givenHistory: Int { wholeFeed ? min(1, history) : history }
}
