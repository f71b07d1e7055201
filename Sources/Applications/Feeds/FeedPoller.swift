import Cryptography
import Dispatch
import Feed
import FoundationEssentials
import Logging
import Reactor
import Synchronization
import System

/// What the polls of a feed have been so far.
package struct FeedCounters: Sendable, Equatable {
    package var polls = 0
    /// Polls that brought nothing new for next to nothing: 304, or a file that was not touched.
    package var notModified = 0
    /// Documents equal to the last one, octet for octet, from servers that do not know 304.
    package var identical = 0
    /// Documents read.
    package var documents = 0
    /// Octets of all documents fetched, uncompressed.
    package var bytes = 0
    package var newItems = 0
    package var editedItems = 0
    /// Items that could not be used, counted at each document.
    package var unusableItems = 0
    package var failures: [FeedFailure.Kind: Int] = [:]
    /// Polls whose result could not be saved.
    package var saveFailures = 0
    /// When the feed was asked for last, and when that went well, in nanoseconds since 1970; nil before.
    package var lastPoll: Int64?
    package var lastSuccess: Int64?
    /// Why the last poll failed; nil when it did not.
    package var failing: FeedFailure.Kind?

    package init() {}
}

/// Polls a feed on a thread of its own and hands over what must be sent.
///
/// A poll that fails says why in one line of the log, once until the cause changes or the feed is well again; the next
/// poll comes after a pause that `PollSchedule` chooses. Nothing that a feed does ends the polling.
package final class FeedPoller: Sendable {
    package struct Configuration: Sendable {
        package var location: FeedLocation
        package var interval: Duration
        /// For one poll as a whole, from the request to the last octet.
        package var timeout: Duration = .seconds(60)
        package var bodyLimit = FeedLimits.documentBytes
        /// A document that is not well-formed fails as a whole.
        package var isStrict = false

        package init(location: FeedLocation, interval: Duration = .seconds(5)) {
            self.location = location
            self.interval = interval
        }
    }

    private struct Work: Sendable {
        var state: FeedState
        var schedule: PollSchedule
        var file: FileFetcher?
        var web: WebFetcher?
        var lastDigest: SHA256Digest?
        var unusable: [String] = []
        var fault: String?
        var failing: FeedFailure.Kind?
        var saveFailed = false
        var movedTo: URL?
        /// Where the last answer came from.
        var final: URL?
        var random = SystemRandomNumberGenerator()
    }

    private let configuration: Configuration
    private let logger: Logger
    private let deliver: @Sendable ([PublishedItem], FeedDocument) -> Void
    private let work: Mutex<Work>
    private let fetcher: Mutex<WebFetcher?>
    private let interval: Mutex<Duration>
    private let counts = Mutex(FeedCounters())
    private let isStopped = Atomic(false)
    private let wake = DispatchSemaphore(value: 0)
    private let ended = DispatchSemaphore(value: 0)

    /// - Parameters:
    ///   - state: what is known already; its `history` is what receivers get first.
    ///   - deliver: gets new and edited items, oldest first, and the feed that has them, on the poller's thread. They are
    ///     recorded by then.
    package init(
        _ configuration: Configuration, state: FeedState, logger: Logger,
        deliver: @escaping @Sendable ([PublishedItem], FeedDocument) -> Void
    ) {
        self.configuration = configuration
        self.logger = logger
        self.deliver = deliver
        var work = Work(state: state, schedule: PollSchedule(interval: configuration.interval))
        switch configuration.location {
        case .file(let path): work.file = FileFetcher(path: path, limit: configuration.bodyLimit)
        case .web(let url, let credentials):
            work.web = WebFetcher(
                url: url, credentials: credentials, limit: configuration.bodyLimit, timeout: configuration.timeout)
        }
        fetcher = Mutex(work.web)
        interval = Mutex(configuration.interval)
        self.work = Mutex(work)
    }

    deinit { fetcher.withLock { $0?.stop() } }

    package var counters: FeedCounters { counts.withLock { $0 } }

    /// Polls now and from then on.
    package func start() {
        logger.info("polling \(configuration.location) every \(interval.withLock(\.self))")
        startThread("feed") { [self] in
            while !isStopped.load(ordering: .sequentiallyConsistent) {
                let pause = poll()
                let seconds = Double(pause.components.seconds) + Double(pause.components.attoseconds) * 1e-18
                _ = wake.wait(timeout: .now() + seconds)
            }
            ended.signal()
        }
    }

    /// Polls so often from now on.
    package func poll(every pause: Duration) {
        let isNew = interval.withLock { interval in
            defer { interval = pause }
            return interval != pause
        }
        if isNew { wake.signal() }
    }

    /// Ends the polling; a request that is under way is broken off. What was recorded stays recorded.
    package func stop() {
        isStopped.store(true, ordering: .sequentiallyConsistent)
        fetcher.withLock { $0?.stop() }
        wake.signal()
    }

    /// Waits, after `stop`, until the thread has ended. Not to be called from `deliver`.
    package func waitUntilStopped() { ended.wait() }

    /// Polls once, on the caller's thread.
    ///
    /// - Returns: how long to wait before the next poll.
    @discardableResult
    package func poll() -> Duration {
        let (news, pause) = work.withLock { work in
            counts.withLock {
                $0.polls += 1
                $0.lastPoll = Reactor.timeOfDay()
            }
            work.schedule.setInterval(interval.withLock(\.self))
            let (news, failure) = step(&work)
            counts.withLock {
                $0.failing = failure?.kind
                if failure == nil { $0.lastSuccess = Reactor.timeOfDay() }
            }
            guard let failure else {
                let pause = work.schedule.succeeded()
                if work.failing != nil { logger.notice("\(configuration.location) can be read again") }
                work.failing = nil
                return (news, pause)
            }
            counts.withLock { $0.failures[failure.kind, default: 0] += 1 }
            let pause = work.schedule.failed(retryAfter: failure.retryAfter, random: &work.random)
            report(failure, pause: pause, &work)
            return (news, failure.kind == .gone ? Self.pauseWhenGone : pause)
        }
        if let news, !news.items.isEmpty { deliver(news.items, news.feed) }
        return pause
    }

    private func report(_ failure: FeedFailure, pause: Duration, _ work: inout Work) {
        guard failure.kind != .stopped else { return }
        let seconds = Int(pause.components.seconds)
        if failure.kind == .gone {
            logger.error("the feed is gone: \(failure); it is not asked for again by this run")
        } else if work.failing == failure.kind {
            logger.debug("the feed still fails: \(failure); next try in \(seconds) s")
        } else {
            logger.error("the feed cannot be read: \(failure); next try in \(seconds) s")
        }
        work.failing = failure.kind
    }

    /// As good as for ever.
    static let pauseWhenGone = Duration.seconds(365 * 86_400)

    private typealias News = (items: [PublishedItem], feed: FeedDocument)

    private func step(_ work: inout Work) -> (news: News?, failure: FeedFailure?) {
        switch fetch(&work) {
        case .failure(let failure):
            retrySaving(&work)
            return (nil, failure)
        case .unchanged(let validators):
            counts.withLock { $0.notModified += 1 }
            if let validators { work.state.use(validators) }
            retrySaving(&work)
            return (nil, nil)
        case .document(let bytes, let validators, let charset):
            counts.withLock { $0.bytes += bytes.count }
            let digest = SHA256Digest(of: bytes)
            guard digest != work.lastDigest else {
                counts.withLock { $0.identical += 1 }
                work.state.use(validators)
                retrySaving(&work)
                return (nil, nil)
            }
            do throws(FeedError) {
                let news = try absorb(bytes, charset, validators, &work)
                work.lastDigest = work.state.memory.holdsBack ? nil : digest
                if work.state.memory.holdsBack { work.file?.forget() }
                return (news, nil)
            } catch {
                work.file?.forget()
                work.state.use(moved: nil)
                return (nil, FeedFailure(.document, "\(configuration.location): \(error)"))
            }
        }
    }

    private func fetch(_ work: inout Work) -> FetchResult {
        if work.file != nil { return work.file?.fetch() ?? .unchanged(nil) }
        guard let web = work.web else { return .unchanged(nil) }
        let (result, movedTo, final) = web.fetch(work.state.validators, at: work.state.moved)
        work.final = final
        if case .failure(let failure) = result {
            // A wrong move must not hold for ever.
            if failure.kind != .stopped { work.state.use(moved: nil) }
        } else if let movedTo {
            work.state.use(moved: movedTo)
        }
        if let movedTo, movedTo != work.movedTo {
            work.movedTo = movedTo
            logger.notice(
                "\(configuration.location) has moved for good: use --feed \(PublicAddress.redacted(movedTo.absoluteString))"
            )
        }
        return result
    }

    private func absorb(
        _ bytes: [UInt8], _ charset: String?, _ validators: FeedValidators, _ work: inout Work
    ) throws(FeedError) -> News {
        let document = try FeedParser.parse(
            bytes, base: configuration.location.base(after: work.final), charset: charset,
            strict: configuration.isStrict)
        if document.fault != work.fault, let fault = document.fault {
            logger.warning("\(configuration.location) is read in spite of a fault: \(fault)")
        }
        work.fault = document.fault
        if document.unusable != work.unusable, let first = document.unusable.first {
            let all = document.unusable.count + document.items.count
            logger.warning("\(document.unusable.count) of \(all) items are left out: \(first)")
        }
        work.unusable = document.unusable
        let (items, failure) = work.state.absorb(document, validators: validators)
        note(failure, &work)
        let edited = items.count { $0.kind == .edited }
        counts.withLock { counts in
            counts.documents += 1
            counts.unusableItems += document.unusable.count
            counts.newItems += items.count - edited
            counts.editedItems += edited
        }
        if !items.isEmpty { logger.debug("\(items.count - edited) new and \(edited) edited items") }
        return (items, document)
    }

    private func retrySaving(_ work: inout Work) {
        if work.state.isUnsaved { note(work.state.save(), &work) }
    }

    private func note(_ failure: FileError?, _ work: inout Work) {
        if let failure {
            counts.withLock { $0.saveFailures += 1 }
            if !work.saveFailed {
                logger.error("\(failure); after a restart the newest items would be sent again")
            }
        } else if work.saveFailed {
            logger.notice("the state is saved again")
        }
        work.saveFailed = failure != nil
    }
}
