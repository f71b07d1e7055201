import QUIC
import Testing
import Wire

@Suite("Transport parameters")
struct TransportParametersTests {
    @Test func everyFieldSurvives() throws {
        var parameters = TransportParameters.standard
        parameters.originalDestinationConnectionID = ConnectionID([1, 2, 3])
        parameters.initialSourceConnectionID = ConnectionID([4])
        parameters.retrySourceConnectionID = ConnectionID([5, 6])
        parameters.statelessResetToken = [UInt8](repeating: 9, count: 16)
        parameters.ackDelayExponent = 8
        parameters.maxAckDelay = .milliseconds(5)
        parameters.disableActiveMigration = true
        parameters.maxDatagramFrameSize = 1200
        parameters.initialMaxPathID = 4
        parameters.others[0xedf3] = [1, 1]
        #expect(try TransportParameters(parameters.encoded(), from: .server) == parameters)
    }

    @Test(
        arguments: [
            ("twice", [0x01, 0x01, 5, 0x01, 0x01, 5], Role.client),
            ("truncated", [0x01, 0x02, 5], .client),
            ("payload size below 1200", [0x03, 0x02, 0x44, 0xaf], .client),
            ("ack delay exponent above 20", [0x0a, 0x01, 21], .client),
            ("max ack delay of 2^14", [0x0b, 0x04, 0x80, 0, 0x40, 0], .client),
            ("connection ID limit below 2", [0x0e, 0x01, 1], .client),
            ("original destination from a client", [0x00, 0x01, 1], .client),
            ("reset token from a client", [0x02, 0x10] + [UInt8](repeating: 0, count: 16), .client),
            ("retry source from a client", [0x10, 0x01, 1], .client),
            ("preferred address from a client", [0x0d, 0x00], .client),
            ("short reset token", [0x02, 0x0f] + [UInt8](repeating: 0, count: 15), .server),
            ("streams above 2^60", [0x08, 0x08, 0xd0, 0, 0, 0, 0, 0, 0, 1], .server),
            ("trailing octet", [0x04, 0x02, 5, 5], .server),
            ("disable_active_migration with a value", [0x0c, 0x01, 0], .server),
            (
                "preferred address without a connection ID", [0x0d, 41] + [UInt8](repeating: 0, count: 41), .server
            ),
            ("maximum path ID of 2^32", [0x3e, 0x08, 0xc0, 0, 0, 1, 0, 0, 0, 0], .server),
        ] as [(String, [UInt8], Role)])
    func refused(_ name: String, _ octets: [UInt8], _ sender: Role) {
        let error = #expect(throws: TransportError.self) { try TransportParameters(octets, from: sender) }
        #expect(error?.code == .transportParameterError, "\(name)")
    }
}
