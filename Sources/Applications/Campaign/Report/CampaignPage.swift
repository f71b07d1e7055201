import FoundationEssentials
import Operation

/// The report: one file of HTML that needs nothing else.
struct CampaignPage {
    let result: CampaignResult
    private var facts: CampaignFacts { result.facts }
    private var measured: CampaignMeasurement { result.measurement }

    var html: String {
        """
        <!DOCTYPE html>
        <html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
        <title>Campaign \(escaped(facts.name))</title><style>\(Self.style)</style></head><body><main>
        <h1>Campaign \(escaped(facts.name))</h1>
        <p class="quiet">\(time(facts.began)) to \(time(facts.ended)), by \(escaped(firstLine(facts.version)))</p>
        \(verdict)
        <h2>Figure 1: the deployment</h2>
        <figure>\(DeploymentFigure(facts: facts, measurement: measured).svg)</figure>
        <h2>Figure 2: octets at the source</h2>
        <figure>\(measured.octetsFigure(end: facts.seconds(facts.sendingEnded ?? facts.ended)).svg)
        <figcaption>\(octetsCaption)</figcaption></figure>
        <h2>Receivers</h2>
        \(receivers)
        <h2>The way of each receiver over time</h2>
        <figure>\(PathFigure(facts: facts, measurement: measured).svg)
        <figcaption>\(faultsCaption)</figcaption></figure>
        \(unverified)
        <h2>Hosts and clocks</h2>
        \(hosts)
        \(roles)
        \(list("Notes", facts.notes))
        <h2>The plan</h2>
        <pre>\(escaped(facts.plan))</pre>
        <h2>Versions</h2>
        <pre>\(escaped(facts.version))</pre>
        </main></body></html>

        """
    }

    /// What it all comes to, first of all.
    private var verdict: String {
        let complete = measured.receivers.count(where: \.isComplete)
        let all = measured.receivers.count { !$0.isEndedOnPurpose }
        var out = "<div class=\"tiles\">"
        out += tile("\(measured.source.items)", "items sent")
        out += tile("\(complete) of \(all)", "receivers have every item, once, equal to the octet")
        if let saving = measured.saving {
            out += tile("\(fixed(saving, 2)) ×", "less than the same receivers on unicast (computed)")
        }
        let latencies = measured.receivers.compactMap(\.latency?.median).sorted()
        if !latencies.isEmpty {
            out += tile("\(fixed(percentile(latencies, 0.5), 1)) ms", "median latency of the median receiver")
        }
        out += "</div>"
        var problems: [String] = []
        if facts.isInterrupted {
            problems.append("The campaign was interrupted: what follows is what there was by then.")
        }
        if let failure = facts.failure { problems.append("The campaign could not be completed: \(failure)") }
        problems += facts.hosts.compactMap { host in host.failure.map { "Host \(host.name) failed: \($0)" } }
        problems += facts.roles.compactMap { role in role.failure.map { "\(role.name) on \(role.host): \($0)" } }
        problems += measured.receivers.filter { !$0.isComplete && $0.failure == nil && !$0.isEndedOnPurpose }.map {
            "\($0.name) lacks \($0.missing) items, has \($0.duplicates) twice, and \($0.different) that were not sent"
        }
        return out + list(nil, problems, kind: "bad")
    }

    private func tile(_ number: String, _ text: String) -> String {
        "<div class=\"tile\"><b>\(escaped(number))</b><span>\(escaped(text))</span></div>"
    }

    private func list(_ title: String?, _ lines: [String], kind: String = "") -> String {
        guard !lines.isEmpty else { return "" }
        let shown = lines.prefix(200).map { "<li>\(escaped($0))</li>" }.joined()
        return (title.map { "<h2>\($0)</h2>" } ?? "") + "<ul class=\"\(kind)\">\(shown)</ul>"
    }

    private var octetsCaption: String {
        let source = measured.source
        var text = """
            The documents of \(source.items) items have \(octets(source.documentOctets)). The source sent \(octets(source.flowOctets)) on the \
            flow, \(octets(source.repairOctets)) in repair, \(octets(source.unicastOctets)) of items on connections and \
            \(octets(source.controlOctets)) of control.
            """
        if measured.listeners > 0 {
            text +=
                " The dashed line is computed, not measured: the documents' octets to \(measured.listeners) receivers"
            text +=
                measured.isFactorMeasured
                ? ", times \(fixed(measured.unicastFactor, 3)), which is what a receiver on unicast had on its connection for each of them."
                : ", without headers, acknowledgements or losses, since no receiver was on unicast to compare with."
            text +=
                " Those who took the flow had \(octets(measured.listenersUnicastOctets)) on their connections besides."
        }
        return escaped(text)
    }

    private var faultsCaption: String {
        guard !facts.faults.isEmpty else { return "No faults were planned." }
        return facts.faults.map { "\(fixed(facts.seconds($0.began), 1)) s: \(escaped($0.title))" }
            .joined(separator: "; ")
    }

    private var receivers: String {
        var out = """
            <div class="wide"><table><tr><th>receiver<th>path<th>items<th>missing<th>twice<th>by flow / mixed / connection\
            <th>packets lost<th>repaired<th>fell back<th>returned<th colspan="4">latency p50 / p95 / p99 / max (ms)<th>±</tr>

            """
        for receiver in measured.receivers {
            let isBad = !receiver.isComplete && !receiver.isEndedOnPurpose
            let cells: [String] = [
                escaped(receiver.name), receiver.path.rawValue, "\(receiver.items)", "\(receiver.missing)",
                "\(receiver.duplicates)", "\(receiver.viaFlow) / \(receiver.viaMixed) / \(receiver.viaUnicast)",
                receiver.packetsLost.map(String.init) ?? "?", receiver.repaired.map(String.init) ?? "?",
                "\(receiver.fallbacks)", "\(receiver.returns)",
            ]
            out += row(cells + latencyCells(receiver.latency), isBad: isBad)
        }
        return out + """
            </table></div><p class="quiet">Latency counts from the moment when the source's host read that an item goes out to \
            the moment when the receiver's host read that it is there, with the offset between their clocks taken off; ± is the \
            most that this may be wrong by. Figures in grey italics are smaller than the clocks can tell. Packets lost and repaired \
            are what a receiver says at its end, ? where it had no last word.</p>
            """
    }

    private func latencyCells(_ latency: CampaignMeasurement.Latency?) -> [String] {
        guard let latency else { return Array(repeating: "", count: 5) }
        let times = [latency.median, latency.percent95, latency.percent99, latency.largest].map { fixed($0, 1) }
        let void = "<i title=\"the clocks are not known well enough\">"
        return (latency.isVoid ? times.map { "\(void)\($0)</i>" } : times) + [fixed(latency.uncertainty, 2)]
    }

    private func row(_ cells: [String], isBad: Bool) -> String {
        "<tr\(isBad ? " class=\"bad\"" : "")>" + cells.map { "<td>\($0)" }.joined() + "</tr>\n"
    }

    private var hosts: String {
        var out = """
            <div class="wide"><table><tr><th>host<th>ssh<th>system<th>machine<th>program\
            <th>clock ahead (ms)<th>± (ms)<th>drift (ppm)<th>exchanges</tr>

            """
        for host in facts.hosts {
            var cells: [String] = [escaped(host.name), escaped(host.destination ?? "none")]
            if let facts = host.facts {
                let memory = "\(fixed(Double(facts.memoryOctets) / 1e9, 1)) GB"
                let cores = "\(facts.cores) core\(facts.cores == 1 ? "" : "s")"
                cells.append(escaped("\(facts.distribution), \(words(facts.system))"))
                cells.append(escaped("\(facts.processor), \(cores), \(memory)"))
            } else {
                cells += ["", ""]
            }
            cells.append(escaped(host.facts == nil ? host.failure ?? "" : host.installation))
            if let clock = host.clock {
                cells += [milliseconds(clock.offsetNanoseconds), milliseconds(clock.uncertaintyNanoseconds)]
                cells += [fixed(clock.driftNanosecondsPerSecond / 1000, 2), "\(clock.exchanges)"]
            } else {
                cells += ["", "", "", ""]
            }
            out += row(cells, isBad: host.failure != nil)
        }
        return out + """
            </table></div><p class="quiet">Clocks are compared with that of the machine that ran the campaign, by questions over \
            ssh; ± is the most that this may be wrong by, from half of the shortest round trips.</p>
            """
    }

    /// Who took part without being of the plan.
    private var unverified: String {
        guard !measured.unverified.isEmpty else { return "" }
        let rows = measured.unverified.prefix(500).enumerated().map { number, other in
            let times = [other.median, other.percent95, other.uncertainty].map { time in time.map { fixed($0, 1) } ?? ""
            }
            let cells: [String] = [
                "\(number + 1)", escaped(other.way), "\(other.items)", "\(other.packetsLost)", "\(other.fallbacks)",
            ]
            return row(cells + times + ["\(other.reports)"], isBad: false)
        }
        return """
            <h2>What others report: unverified</h2><div class="wide"><table><tr><th>who<th>path<th>items<th>packets lost\
            <th>fell back<th>latency p50 (ms)<th>p95<th>±<th>reports</tr>
            \(rows.joined())</table></div><p class="quiet">\(measured.unverified.count == 1 ? "One receiver has" : "\(measured.unverified.count) receivers have") told the source of their \
            reception themselves. Nobody has verified it, and nothing else in this report is made of it. Latencies are by the source's clock \
            as the receiver estimates it.</p>
            """
    }

    private var roles: String {
        let rows = facts.roles.prefix(200).map { role in
            """
            <tr><td>\(escaped(role.name))<td>\(escaped(role.host))<td>\(fixed(Double(role.processorMilliseconds) / 1000, 2)) s\
            <td>\(fixed(Double(role.memoryOctets) / 1e6, 0)) MB<td>\(role.status.map { "\($0)" } ?? "?")</tr>
            """
        }
        return """
            <h2>Processes</h2><div class="wide"><table><tr><th>role<th>host<th>processor time<th>most memory<th>exit status</tr>
            \(rows.joined(separator: "\n"))</table></div>
            """
    }

    private func words(_ system: String) -> String { system.split(separator: " ").prefix(2).joined(separator: " ") }

    private func firstLine(_ text: String) -> String { text.split(separator: "\n").first.map(String.init) ?? "" }

    private func time(_ nanoseconds: Int64) -> String {
        escaped(timestamp(Date(timeIntervalSince1970: Double(nanoseconds) / 1e9)))
    }

    private func octets(_ count: Int) -> String {
        count >= 1_000_000 ? "\(fixed(Double(count) / 1e6, 2)) MB" : "\(fixed(Double(count) / 1e3, 1)) kB"
    }

    private static let style = """
        :root{color-scheme:light dark;--back:#fff;--text:#222;--quiet:#666;--line:#ddd;--tile:#f4f6f8;--bad:#fbe9e7;--badtext:#a93226}
        @media(prefers-color-scheme:dark){:root{--back:#16191d;--text:#e6e6e6;--quiet:#9aa4ad;--line:#363c43;--tile:#22272e;\
        --bad:#3b2020;--badtext:#f1948a}}
        body{background:var(--back);color:var(--text);font:15px/1.5 system-ui,sans-serif;margin:0}
        main{max-width:1000px;margin:0 auto;padding:16px}
        h1{font-size:26px;margin:8px 0 0}h2{font-size:18px;margin:32px 0 8px}
        .quiet{color:var(--quiet);font-size:13px}
        .tiles{display:flex;flex-wrap:wrap;gap:12px;margin:16px 0}
        .tile{background:var(--tile);border-radius:8px;padding:12px 16px;flex:1 1 180px}
        .tile b{display:block;font-size:24px}.tile span{color:var(--quiet);font-size:13px}
        figure{margin:0}figure svg{width:100%;height:auto;border:1px solid var(--line);border-radius:8px}
        figcaption{color:var(--quiet);font-size:13px;margin-top:6px}
        .wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px;width:100%}
        th{text-align:left;font-weight:600;vertical-align:bottom}th,td{border-bottom:1px solid var(--line);padding:4px 8px}
        td{font-variant-numeric:tabular-nums}td i{color:var(--quiet)}
        tr.bad,ul.bad{background:var(--bad)}ul.bad{color:var(--badtext);border-radius:8px;padding:10px 10px 10px 30px}
        pre{background:var(--tile);border-radius:8px;padding:12px;overflow-x:auto;font-size:13px}
        """
}
