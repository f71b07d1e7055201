import Operation

/// What a campaign came to, as lines of 80 columns or little more.
package struct CampaignSummary {
    let result: CampaignResult

    package init(_ result: CampaignResult) { self.result = result }

    package var lines: [String] {
        let (facts, measured) = (result.facts, result.measurement)
        var lines: [String] = []
        for host in facts.hosts {
            if let failure = host.failure { lines.append("host \(host.name) failed: \(failure)") }
        }
        for role in facts.roles { if let failure = role.failure { lines.append("\(role.name) failed: \(failure)") } }
        for receiver in measured.receivers where !receiver.isComplete && receiver.failure == nil {
            lines.append(
                receiver.isEndedOnPurpose
                    ? "\(receiver.name) was ended on purpose, with \(receiver.items) items"
                    : "\(receiver.name) lacks \(receiver.missing), has \(receiver.duplicates) twice, \(receiver.different) not as sent"
            )
        }
        if let failure = facts.failure { lines.append("failed: \(failure)") }
        if facts.isInterrupted { lines.append("interrupted") }
        let complete = measured.receivers.count(where: \.isComplete)
        lines.append(
            "\(measured.source.items) items; \(complete) of \(measured.receivers.count) receivers have every one")
        if let saving = measured.saving {
            lines.append(
                "flow and repair: \(fixed(saving, 2)) times less than the same \(measured.listeners) on unicast (computed)"
            )
        }
        return lines.map(TerminalView.printable)
    }
}
