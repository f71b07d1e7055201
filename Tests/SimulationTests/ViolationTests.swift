import Flexicast
import QUIC
import Simulation
import Testing
import Wire

/// A receiver that breaks a rule loses its own connection; the others do not notice.
@Suite struct ViolationTests {
    /// Two members; the first sends `frame`. Its reason for being closed, after which the second still works.
    private func closeReason(_ frame: (Simulation) -> [UInt8]) -> CloseReason? {
        let simulation = Simulation(seed: 11)
        let liar = simulation.addReceiver()
        let honest = simulation.addReceiver()
        simulation.run(for: .seconds(1))
        simulation.publish(DeliveryTests.item(1, 5000))
        simulation.run(for: .milliseconds(200))
        #expect(simulation.source.flow.memberCount == 2)
        simulation.send(frame(simulation), from: liar)
        simulation.run(for: .seconds(1))
        simulation.publish(DeliveryTests.item(2, 5000))
        simulation.run(for: .seconds(1))
        #expect(honest.items.count == 2)
        #expect(honest.closed == nil)
        #expect(honest.octetsFromUnicast == 0)
        if liar.closed != nil {
            #expect(simulation.source.flow.memberCount == 1)
            #expect(simulation.source.flow.octetsHeld == 0)
        }
        return liar.closed
    }

    private func code(_ reason: CloseReason?) -> UInt64? {
        if case .peer(let error)? = reason { error.code.rawValue } else { nil }
    }

    private func pathAck(path: UInt8, largest: UInt64, first: UInt64) -> [UInt8] {
        [UInt8].written(capacity: 64) { writer in
            writer.varint(0x3e)
            writer.uint8(path)
            writer.varint(largest)
            writer.varint(0)
            writer.varint(0)
            writer.varint(first)
        }
    }

    /// One packet that a key holder forged makes every receiver acknowledge a number that was never sent. They leave the flow
    /// and keep their connections, and everything comes to each once.
    @Test func acknowledgingWhatWasNeverSentEndsNoConnection() {
        let simulation = Simulation(seed: 11)
        for _ in 0..<3 { simulation.addReceiver() }
        simulation.run(for: .seconds(1))
        for number in 0..<40 {
            if number == 10 {
                let next = simulation.source.flow.nextPacketNumber
                for receiver in simulation.receivers {
                    simulation.send(self.pathAck(path: 1, largest: next + 5, first: 3), from: receiver)
                }
                simulation.run(for: .milliseconds(30))
                #expect(simulation.source.flow.memberCount == 0)
            }
            simulation.publish(DeliveryTests.item(number, 5000))
            simulation.run(for: .milliseconds(200))
        }
        for receiver in simulation.receivers {
            #expect(simulation.faults(of: receiver) == [])
            #expect(receiver.fallBacks == [.sourceLeft])
        }
        #expect(simulation.source.flow.statistics.refusedAcknowledgements == 3)
        #expect(simulation.source.flow.memberCount == 3)
    }

    @Test func acknowledgingAPathThatDoesNotExist() {
        let reason = closeReason { _ in self.pathAck(path: 5, largest: 1, first: 0) }
        #expect(code(reason) == TransportError.Code.protocolViolation.rawValue)
    }

    @Test func announcingAndKeyingAsAReceiver() {
        let announced = closeReason { simulation in
            AnnounceFrame(
                flowID: simulation.source.flow.flowID, sequence: 9, parameters: simulation.source.flow.parameters
            ).encoded
        }
        #expect(code(announced) == TransportError.Code.flexicastViolation.rawValue)
        let keyed = closeReason { simulation in
            KeyFrame(
                flowID: simulation.source.flow.flowID, sequence: 9, packetNumber: 0, suite: .aes128GCM,
                secret: [UInt8](repeating: 0, count: 32)
            ).encoded
        }
        #expect(code(keyed) == TransportError.Code.flexicastViolation.rawValue)
    }

    @Test func speakingOfAFlowNeverAnnounced() {
        let reason = closeReason { _ in
            StateFrame(flowID: FlowID([9, 9, 9])!, sequence: 0, action: .join).encoded
        }
        #expect(code(reason) == TransportError.Code.flexicastViolation.rawValue)
    }

    @Test func aFrameCutShort() {
        let reason = closeReason { _ in [0x40, 0xf4, 0x00] }
        #expect(code(reason) == TransportError.Code.frameEncodingError.rawValue)
    }
}
