/// Something that is wrong in a plan, and where.
package struct PlanProblem: Error, Equatable, Sendable {
    /// From 1; nil where it is about the file as a whole.
    package var line: Int?
    package var text: String

    package init(line: Int?, _ text: String) {
        self.line = line
        self.text = text
    }
}

/// Everything that is wrong in a plan, in the order of its lines.
package struct PlanError: Error, Equatable, Sendable, CustomStringConvertible {
    package var file: String
    package var problems: [PlanProblem]

    package init(file: String, problems: [PlanProblem]) {
        self.file = file
        self.problems = problems
    }

    /// One line each, as compilers write it.
    package var description: String {
        problems.map { "\(file):\($0.line.map { "\($0):" } ?? "") \($0.text)" }.joined(separator: "\n")
    }
}
