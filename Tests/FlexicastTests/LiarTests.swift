import QUIC
import Testing
import Wire

@testable import Flexicast

/// Liars beside 1, 5 and 100 honest members: the honest keep their rate and their objects come in time.
@Suite struct LiarTests {
    enum Lie: String, CaseIterable, Sendable {
        case loses, late, silent
        var conduct: FlowModel.Conduct {
            switch self {
            case .loses: .loses(every: 6)
            case .late: .late(2.7)
            case .silent: .silent
            }
        }
    }
    enum Arrival: String, CaseIterable, Sendable { case oneASecond, together }
    struct Case: Sendable, CustomTestStringConvertible {
        var lie: Lie
        var arrival: Arrival
        var honest: Int
        var isOneAccount: Bool
        var testDescription: String {
            "\(lie.rawValue) \(arrival.rawValue) beside \(honest), \(isOneAccount ? "one account" : "25 accounts")"
        }
    }

    static var cases: [Case] {
        var cases: [Case] = []
        for lie in Lie.allCases {
            for arrival in Arrival.allCases {
                for honest in lie == .loses ? [1, 5, 100] : [1, 100] {
                    for isOneAccount in [true, false] {
                        cases.append(
                            Case(lie: lie, arrival: arrival, honest: honest, isOneAccount: isOneAccount))
                    }
                }
            }
        }
        return cases
    }

    /// Flows of small packets cost a test less.
    private static let rate: UInt64 = 12_000_000

    private static func model(_ test: Case) -> FlowModel {
        let model = FlowModel(seed: 7) {
            $0.rateCeiling = rate
        }
        for index in 0..<test.honest { model.add(address: UInt32(index)) }
        return model
    }

    private static func arrive(_ model: FlowModel, _ test: Case, number: Int) {
        let address = test.isOneAccount ? UInt32(1 << 20) : UInt32(1 << 20 + number % 25)
        model.add(test.lie.conduct, address: address)
    }

    private static func run(_ model: FlowModel, _ test: Case, seconds: Int, publishing bits: UInt64) -> [UInt64] {
        var rates: [UInt64] = []
        for second in 0..<seconds {
            if test.arrival == .oneASecond || second == 0 {
                for number in 0..<(test.arrival == .together ? 25 : 1) {
                    arrive(model, test, number: second + number)
                }
            }
            rates.append(model.run(for: .seconds(1), publishing: bits))
        }
        return rates
    }

    /// The rate that a source gets which has more to send than the flow takes.
    @Test(arguments: cases) func theHonestKeepTheirRate(_ test: Case) {
        let model = Self.model(test)
        let rates = Self.run(model, test, seconds: 2, publishing: .max)
        #expect(model.onFlow == test.honest)
        // A second holds whole packets: one less of them than the floor is in the mean.
        let packet = UInt64(model.flow.configuration.packetSize * 8)
        let least =
            test.isOneAccount || test.honest == 100 ? Self.rate * 9 / 10 : model.flow.configuration.rateFloor - packet
        #expect(rates.dropFirst().allSatisfy { $0 >= least })
    }

    /// How late objects of a source are that sends ten of the twelve megabits, or one object a second.
    @Test(arguments: cases.filter { $0.isOneAccount || $0.honest == 100 }, [10_000_000, 24_000] as [UInt64])
    func objectsComeInTime(_ test: Case, publishing bits: UInt64) {
        let model = Self.model(test)
        _ = Self.run(model, test, seconds: 3, publishing: bits)
        #expect(model.onFlow == test.honest)
        #expect(model.worstWait < .milliseconds(900))
    }
}
