import Reactor
import System
import Wire

/// Serves what a program tells those who run it, over HTTP, on the reactor.
package final class HTTPServer {
    package typealias Request = HTTPPages.Request
    package typealias Page = HTTPPages.Page

    /// Answers a second, and at once: whoever asks more often is told so, and takes no more of the program's time.
    package static let rate = TokenRate(every: pause, burst: 200)
    /// A page of more than so many octets, which takes longer to make, counts as several, up to a number.
    package static let octetsOfOne = 8192
    private static let mostOfOnePage = 100
    private static let pause = Duration.milliseconds(10)

    package let localAddress: SocketAddress
    /// Pages that were asked for, and those that were not made because of `rate`.
    package private(set) var asked: UInt64 = 0
    package private(set) var refused: UInt64 = 0
    /// Connections closed because there were too many, or because their time was over.
    package var turnedAway: UInt64 { pages?.turnedAway ?? 0 }
    package var givenUp: UInt64 { pages?.givenUp ?? 0 }

    private var pages: HTTPPages?
    private var watch: FileWatch?
    private var timer: TimerHandle?
    private var bucket = TokenBucket()
    private let page: (Request) -> Page?
    private unowned let reactor: Reactor

    /// - Parameter page: the page that was asked for, or nil when there is none.
    /// - Throws: `ReactorError` or `SystemError` when the socket cannot be had.
    package init(
        _ place: ListeningPlace, reactor: Reactor, limits: HTTPPages.Limits = .init(),
        page: @escaping (Request) -> Page?
    ) throws {
        self.reactor = reactor
        self.page = page
        let listening = try Reactor.listenTCP(place)
        localAddress = listening.localAddress
        let pages = try HTTPPages(listening.descriptor, limits: limits) { [unowned self] in answer($0) }
        self.pages = pages
        timer = reactor.timer { [unowned self] in run() }
        watch = try reactor.watch(pages.descriptor) { [unowned self] _ in run() }
    }

    package func close() {
        watch?.cancel()
        (watch, timer, pages) = (nil, nil, nil)
    }

    deinit { watch?.cancel() }

    private func run() {
        guard let wait = pages?.run(at: reactor.now.nanoseconds) else { return }
        timer?.schedule(at: reactor.now + .nanoseconds(wait))
    }

    private func answer(_ request: Request) -> Page {
        guard bucket.take(Self.rate, at: reactor.now) else {
            refused += 1
            return .tooMany
        }
        asked += 1
        let page = page(request) ?? .notFound
        let more = min(page.body.count / Self.octetsOfOne, Self.mostOfOnePage)
        _ = bucket.take(Self.pause.nanoseconds * Int64(more), ifMissing: .max, at: reactor.now)
        return page
    }
}

extension HTTPServer.Page {
    /// A JSON object, with a line break behind it.
    package static func json(_ text: String) -> Self { Self(type: "application/json", text + "\n") }

    /// In the format that was asked for.
    package static func metrics(_ text: MetricsText, _ request: HTTPServer.Request) -> Self {
        let format = MetricsText.Format(accept: request.accept)
        return Self(type: format.type, text.text(format))
    }

    /// A listing, some lines at a time: `from=N` goes on where the answer before said `next`.
    package static func listing<Line>(
        _ name: String, _ before: KeyValuePairs<String, any JSONValue>, _ request: HTTPServer.Request,
        accounts: (_ from: Int) -> (accounts: [Line], next: Int?), line: (Line) -> String
    ) -> Self {
        let (found, next) = accounts(request.from.flatMap { Int($0) } ?? 0)
        let end = next.map { ",\"next\":\($0)" } ?? ""
        return .json(
            "\(jsonObject(before).dropLast()),\"\(name)\":[\n\(found.map(line).joined(separator: ",\n"))]\(end)}")
    }
}
