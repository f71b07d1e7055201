/// A world to simulate: who is there, what the network does, and who does not play by the rules.
public struct SimulationPlan {
    /// Receivers that break rules, or do not do what one may expect of them.
    public enum Liar: String, CaseIterable, Sendable {
        /// Every sixth packet of the flow is lost to it.
        case lossy
        /// It joins and is not heard of any more.
        case silent
        /// It grants the source nothing.
        case creditless
        /// It leaves the flow and joins again every second.
        case cycling
        /// It acknowledges a packet of the flow that was never sent, ten times a second.
        case inventing
    }

    /// Something that happens once.
    public enum Fault {
        /// A branch of the tree carries nothing for so long.
        case cut(branch: Int, for: Duration)
        /// The source's process ends and another begins.
        case restart
        /// NATs give so many receivers another port.
        case rebind(receivers: Int)
    }

    /// Receivers that play by the rules.
    public var receivers = 1000
    /// How much time is simulated, from the first receiver's arrival to the last object.
    public var duration = Duration.seconds(60)
    /// Receivers arrive evenly over so long.
    public var arrival = Duration.seconds(10)
    /// Octets of an object.
    public var objectSize = 2000
    /// From one object to the next.
    public var objectInterval = Duration.seconds(5)
    /// How each receiver's connection reaches the source and is reached; its loss is also what each loses of the flow for itself.
    public var link = Link(delay: .milliseconds(20), jitter: .milliseconds(5), loss: 0.01)
    /// The tree's branches, over which receivers are spread evenly.
    public var branches = 20
    /// Each branch; its loss hits all behind it.
    public var branch = Link(delay: .milliseconds(20), jitter: .milliseconds(5))
    /// The share of receivers that goes each minute, every other one without a word; as many come.
    public var churn = 0.01
    /// How many of each kind there are beside the others.
    public var liars: [Liar: Int] = [:]
    /// What happens when.
    public var faults: [(at: Duration, fault: Fault)] = []
    /// An object that comes to an honest receiver later than this after its publication is a complaint.
    public var lateness = Duration.seconds(30)

    /// A minute with a thousand receivers, a loss of one per cent, and nobody who lies.
    public init() {}
}
