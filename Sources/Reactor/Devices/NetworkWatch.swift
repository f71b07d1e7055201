import CShims
import Glibc
import Wire

/// Tells when the interfaces of this network namespace, or their addresses, have changed (rtnetlink(7)): once for all that
/// happens within a tenth of a second, as one change is told in pieces.
public final class NetworkWatch {
    /// How long is waited for what belongs to a change.
    public static let gathering = Duration.milliseconds(100)

    private var watch: FileWatch?
    private var timer: TimerHandle?

    /// - Throws: `ReactorError` where the system does not tell.
    public init(on reactor: Reactor, _ changed: @escaping () -> Void) throws(ReactorError) {
        let descriptor = fcio_network_watch()
        guard descriptor >= 0 else { throw ReactorError("watch", "the network", code: descriptor) }
        timer = reactor.timer { changed() }
        do throws(ReactorError) {
            watch = try reactor.watch(descriptor, closing: true) { [unowned self, unowned reactor] watch in
                // What it says is not looked at: what there is now is asked for afterwards.
                var octets: [UInt8] = []
                while let outcome = try? watch.read(appendingTo: &octets), case .octets = outcome {
                    octets.removeAll(keepingCapacity: true)
                }
                timer?.schedule(at: reactor.now + Self.gathering)
            }
        } catch {
            Glibc.close(descriptor)
            throw error
        }
    }

    deinit { watch?.cancel() }
}
