import Objects
import QUIC

// What the two ends of a connection declare as it begins. Each has one place, in production, simulation and tests.

/// What a receiver lets its source send before it is heard of again. A flow can go no faster than that much in two round
/// trips (and whoever has less left than three trips take is put on unicast), so that it is what a gigabit takes with a
/// delay of acknowledgements of a tenth of a second.
public struct ReceiverGrant: Sendable {
    /// Octets of streams.
    public var octets: UInt64
    /// Streams, which is parts.
    public var streams: UInt64

    /// - Parameters:
    ///   - octets: of all streams together, 64 MiB unless said otherwise.
    ///   - streams: each carries one part.
    public init(octets: UInt64 = 64 << 20, streams: UInt64 = 16_384) {
        self.octets = octets
        self.streams = streams
    }
}

extension ConnectionConfiguration {
    /// A source's end. Receivers send nothing but acknowledgements and, on the control stream, their position.
    public static func source(hasFlow: Bool) -> ConnectionConfiguration {
        var configuration = ConnectionConfiguration()
        configuration.parameters.initialMaxStreamsBidi = 1
        configuration.parameters.initialMaxStreamDataBidiRemote = 1 << 16
        configuration.parameters.initialMaxStreamsUni = 0
        configuration.keepAlive = .seconds(10)
        if hasFlow { configuration.offerFlows() }
        return configuration
    }

    /// A receiver's end; one that uses no flow is an ordinary QUIC client.
    public static func receiver(usesFlow: Bool, grant: ReceiverGrant = ReceiverGrant()) -> ConnectionConfiguration {
        var configuration = ConnectionConfiguration()
        configuration.parameters.initialMaxData = grant.octets
        configuration.parameters.initialMaxStreamsUni = grant.streams
        // Parts are no longer.
        configuration.parameters.initialMaxStreamDataUni = UInt64(ObjectLimits.streamOctets)
        // Datagrams of any size (RFC 9221 section 3).
        configuration.parameters.maxDatagramFrameSize = 65535
        configuration.keepAlive = .seconds(10)
        if usesFlow { configuration.offerFlows() }
        return configuration
    }

    /// Multipath, and flexicast on top of it (draft section 4).
    private mutating func offerFlows() {
        parameters.initialMaxPathID = 16
        parameters.others[FlexicastSupport.parameterID] = FlexicastSupport().encoded
        extensionParameter = FlexicastSupport.parameterID
    }
}
