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
        /// An object is whole.
        case object(ReceivedObject)
        /// A part of an object of several, where parts are taken as they come.
        case part(ReceivedPart)
        case failed(AssemblyFailure)
        /// Nothing will come for these sequence numbers.
        case gap(Gap)
        case datagram(ArraySlice<UInt8>, via: Via)
        case closed(CloseReason)
    }
}

extension ReceivedObject {
    /// Which way it came.
    package var via: Via { octetsFromFlow == body.count ? .flow : octetsFromFlow == 0 ? .unicast : .mixed }
}
