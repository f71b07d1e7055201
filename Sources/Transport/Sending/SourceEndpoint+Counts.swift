import Flexicast
import QUIC

// What a source has sent so far, put together from its listener, its connections, its flow and its server.

extension SourceEndpoint {
    /// What was sent so far.
    package var counts: SourceCounts {
        var counts = SourceCounts()
        var withStreams = past.withStreams
        counts.bytesControl = past.control
        let door = listener.admission.counters
        // What belongs to no connection was refused, even where it was answered.
        var datagramsDropped = server.datagramsDropped + past.datagramsDropped
        var rejected =
            past.rejected + door.ignored + door.suppressed + door.resets + door.tokensRefused
            + door.versionNegotiations
        for case .some(let connection) in connections {
            let statistics = connection.peer.connection.machine.statistics
            withStreams += Int(statistics.octetsSentWithStreams)
            counts.bytesControl += Int(statistics.octetsSent - statistics.octetsSentWithStreams)
            rejected += connection.peer.connection.packetsRejected
            datagramsDropped += statistics.datagramFramesDropped
        }
        counts.packetsRejected = Int(rejected)
        if let sender, let flow = server.flow?.statistics {
            let onFlow = sender.group == nil ? 0 : Int(flow.octetsRepairedOnFlow)
            // Never negative: what was handed over for repair may not have left yet.
            let onUnicast = min(Int(flow.octetsRepairedOnUnicast), withStreams)
            counts.bytesFlow = Int(sender.octetsSent) - onFlow
            counts.bytesRepair = onFlow + onUnicast
            counts.bytesUnicast = withStreams - onUnicast
            counts.bytesReplicated = Int(sender.octetsCopied)
            counts.replicated = server.copiedCount
            counts.datagramsOnFlow = Int(flow.datagramsSent)
            datagramsDropped += flow.datagramsDropped
            counts.zeroCopy = sender.zeroCopyDescription
        } else {
            counts.bytesUnicast = withStreams
        }
        counts.flowRate = server.flow?.rate
        counts.flowPacketsLost = server.flow?.statistics.lossReports
        counts.receivers = server.receiverCount
        counts.members = server.flow?.memberCount ?? 0
        counts.items = Int(server.objectCount)
        counts.partsGone = Int(server.partsGone)
        counts.objectsExpired = Int(server.objectsExpired)
        counts.partsExpired = Int(server.partsExpired)
        counts.receiversWaiting = server.waitingReceivers
        counts.partsSentAgain = Int(server.partsSentAgain)
        counts.controlErrors = Int(server.controlErrors)
        counts.controlWaits = Int(server.controlWaits)
        counts.datagramsDropped = Int(datagramsDropped)
        counts.datagramsRefused = Int(server.datagramsRefused)
        counts.connectionsRefused = Int(listener.counters.refused.reduce(0, +))
        return counts
    }

    /// What closed connections have sent, and what came for them in vain.
    package struct Past {
        package private(set) var control = 0
        package private(set) var withStreams = 0
        package private(set) var rejected: UInt64 = 0
        package private(set) var datagramsDropped: UInt64 = 0

        package mutating func add(_ peer: ReceiverPeer) {
            let statistics = peer.connection.machine.statistics
            withStreams += Int(statistics.octetsSentWithStreams)
            control += Int(statistics.octetsSent - statistics.octetsSentWithStreams)
            rejected += peer.connection.packetsRejected
            datagramsDropped += statistics.datagramFramesDropped
        }
    }
}
