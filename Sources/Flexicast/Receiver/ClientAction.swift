import Objects
import QUIC
import Wire

/// What a `FlowClient` asks of the shell around it, or tells.
public enum ClientAction: Sendable {
    /// Listen to the flow by the ways allowed: its group, unless that is the receiver's own address, where copies come the
    /// way that the connection's packets come.
    case open(FlowID, source: IPAddress?, group: SocketAddress, ways: FlowWays)
    /// Listen to it no more, by any way.
    case close(FlowID)
    /// The tunnel for a flow that is open.
    case openTunnel(FlowID)
    /// The tunnel is not wanted any more: the group is heard, or the flow is closed.
    case closeTunnel(FlowID)
    /// A key to open packets with; newer ones are tried first.
    case installKey(FlowID, FlowKey)
    /// No packet will be opened with this key again.
    case dropKey(FlowID, generation: UInt64)
    /// The source counts on this receiver from now on.
    case listening(FlowID)
    /// As `listening`, which comes first: the receiver had fallen back, and listens again.
    case returned(FlowID)
    /// The receiver listened, and does not any more: the source serves it on its connection.
    case fellBack(FlowID, FallBackReason)
    /// The source has said what it has, and from where it serves.
    case log(LogMessage)
    /// See `ReceiverAction`.
    case joinRefused(FlowID)
    /// The source has not answered; see `ReceiverAction`.
    case joinUnanswered(FlowID)
    /// An object that is whole.
    case object(ReceivedObject)
    /// A part of an object of several, where they are taken as they come.
    case part(ReceivedPart)
    /// An object that will not be whole.
    case failed(AssemblyFailure)
    /// Sequence numbers that nothing will come for.
    case gap(Gap)
    /// A datagram, and which way it came.
    case datagram(ArraySlice<UInt8>, StreamOrigin)
    /// No part has this number or a higher one, nor ever will.
    case end(UInt64)
}
