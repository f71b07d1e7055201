import Flexicast
import Objects
import QUIC
import Wire

extension Receiver {
    /// What happened on a receiver's connection.
    package enum Event {
        case connected
        case listening(group: SocketAddress)
        /// The flow is looked for another way.
        case way(FlowWay)
        case fellBack(FallbackReason)
        case returned
        /// The source's log, and whether the receiver goes on in it where it was.
        case log(LogMessage)
        case item(ReceivedItem)
        /// A part of an item of several, where parts are taken as they come.
        case part(ReceivedPart)
        case failed(AssemblyFailure)
        /// Nothing will come for these sequence numbers.
        case gap(Gap)
        case closed(CloseReason)
    }
}

/// One item as it came, whole.
package struct ReceivedItem {
    /// The sequence number of its first part: rises in the order in which the source sent, with gaps.
    package var position: UInt64
    package var parts: UInt64
    package var bytes: ArraySlice<UInt8>
    package var via: Via
    /// From its publication to its last octet; nil while the source's clock is not known.
    package var latency: Duration?
}
