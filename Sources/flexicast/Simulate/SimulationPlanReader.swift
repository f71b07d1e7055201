import Campaign
import Operation
import Simulation

/// The keys of a part of a simulation's plan, which docs/simulation.md lists under a heading of this name.
enum SimulationSection: String, CaseIterable {
    case plan, objects, link, branches, liars, faults

    var keys: [String] {
        switch self {
        case .plan:
            ["receivers", "duration", "arrival", "churn", "lateness", "objects", "link", "branches", "liars", "faults"]
        case .objects: ["size", "interval"]
        case .link: Self.network
        case .branches: ["count"] + Self.network
        case .liars: SimulationPlan.Liar.allCases.map(\.rawValue)
        case .faults: ["at", "cut", "for", "restart", "rebind"]
        }
    }

    private static var network: [String] { ["delay", "jitter", "loss", "duplication"] }
}

extension SimulationPlan {
    /// Reads a plan's file.
    /// - Throws: everything that is wrong in it.
    init(file: String) throws(PlanError) {
        let root = try YAMLNode(planOf: YAMLNode.text(of: file), file: file)
        var reader = SimulationPlanReader()
        self = reader.plan(root)
        guard reader.problems.all.isEmpty else {
            throw PlanError(file: file, problems: reader.problems.all.sorted { ($0.line ?? 0) < ($1.line ?? 0) })
        }
    }
}

/// Makes a plan of a document. What is wrong is gathered, and the default taken for it.
private struct SimulationPlanReader {
    var problems = PlanProblems()
    private static let most = 1_000_000

    mutating func plan(_ root: YAMLNode) -> SimulationPlan {
        var plan = SimulationPlan()
        let fields = fields(root, .plan)
        plan.receivers = fields.integer("receivers", in: 0...Self.most, &problems) ?? plan.receivers
        plan.duration = fields.duration("duration", &problems) ?? plan.duration
        plan.arrival = fields.duration("arrival", &problems) ?? plan.arrival
        plan.churn = share("churn", fields) ?? plan.churn
        plan.lateness = fields.duration("lateness", &problems) ?? plan.lateness
        if let node = fields.node("objects") {
            let objects = self.fields(node, .objects)
            plan.objectSize = objects.integer("size", in: 1...200_000, &problems) ?? plan.objectSize
            plan.objectInterval = objects.duration("interval", &problems) ?? plan.objectInterval
        }
        if let node = fields.node("link") { plan.link = link(self.fields(node, .link), plan.link) }
        if let node = fields.node("branches") {
            let branches = self.fields(node, .branches)
            plan.branches = branches.integer("count", in: 1...10_000, &problems) ?? plan.branches
            plan.branch = link(branches, plan.branch)
        }
        if let node = fields.node("liars") {
            let liars = self.fields(node, .liars)
            for kind in SimulationPlan.Liar.allCases {
                plan.liars[kind] = liars.integer(kind.rawValue, in: 0...Self.most, &problems)
            }
        }
        for node in fields.list("faults", &problems) {
            if let fault = fault(node, branches: plan.branches) { plan.faults.append(fault) }
        }
        return plan
    }

    private mutating func fields(_ node: YAMLNode, _ section: SimulationSection) -> PlanFields {
        PlanFields(node, keys: section.keys, name: section.rawValue, &problems)
    }

    private mutating func link(_ fields: PlanFields, _ known: Link) -> Link {
        var link = known
        link.delay = fields.duration("delay", &problems) ?? link.delay
        link.jitter = fields.duration("jitter", &problems) ?? link.jitter
        link.loss = share("loss", fields) ?? link.loss
        link.duplication = share("duplication", fields) ?? link.duplication
        return link
    }

    private mutating func fault(
        _ node: YAMLNode, branches: Int
    ) -> (at: Duration, fault: SimulationPlan.Fault)? {
        let fields = fields(node, .faults)
        fields.require("at", &problems)
        let at = fields.duration("at", &problems)
        var faults: [SimulationPlan.Fault] = []
        if let branch = fields.integer("cut", in: 0...(branches - 1), &problems) {
            fields.require("for", &problems)
            if let time = fields.duration("for", &problems) { faults.append(.cut(branch: branch, for: time)) }
        }
        if fields.value("restart", "source", &problems, { $0 == "source" ? true : nil }) != nil {
            faults.append(.restart)
        }
        if let count = fields.integer("rebind", in: 1...Self.most, &problems) {
            faults.append(.rebind(receivers: count))
        }
        guard faults.count == 1, let at else {
            if problems.all.isEmpty { problems.add(node.line, "a fault is one of cut, restart and rebind") }
            return nil
        }
        return (at, faults[0])
    }

    private mutating func share(_ key: String, _ fields: PlanFields) -> Double? {
        fields.value(key, "a share from 0 to 1, such as 0.01, or a percentage such as 1%", &problems) { text in
            let number = text.last == "%" ? Double(text.dropLast()).map { $0 / 100 } : Double(text)
            return number.flatMap { (0...1).contains($0) ? $0 : nil }
        }
    }
}
