"""Validates qlog files: JSON text sequences (RFC 7464), each record against the CDDL of the qlog drafts and of our extension.

By default the drafts' part is qlog-base.cddl, which lists what our files may use. --base takes other files, such as the CDDL
blocks of draft-ietf-quic-qlog-main-schema-13 and draft-ietf-quic-qlog-quic-events-13. Prints one JSON object: how often each event
and each frame type occurs. Exit status 1 and a line for the first record that is wrong.
"""
import argparse
import collections
import json
import pathlib
import sys

from cddl_verifier import Validator

here = pathlib.Path(__file__).parent
parser = argparse.ArgumentParser()
parser.add_argument("--base", action="append", type=pathlib.Path)
parser.add_argument("files", nargs="+", type=pathlib.Path)
args = parser.parse_args()

EVENTS = {
    "quic:packet_sent": "QUICPacketSent",
    "quic:packet_received": "QUICPacketReceived",
    "quic:connection_closed": "QUICConnectionClosed",
    "quic:recovery_metrics_updated": "QUICRecoveryMetricsUpdated",
}
texts = [path.read_text() for path in args.base or [here / "qlog-base.cddl"]]
texts.append((here.parents[2] / "docs/qlog-flexicast.cddl").read_text())
for name, rule in EVENTS.items():
    texts.append(f'Checked{rule} = {{ time: float, name: "{name}", data: {rule} }}')
# JSON's numbers have no width: any with a point will do.
validator = Validator("\n".join(texts).replace("float32", "float"))


def check(where, record, rule):
    result = validator.validate(record, root_type=rule)
    if not result.valid:
        sys.exit(f"{where}: {result.diagnostics[0].path_text}: {result.diagnostics[0].message}: {json.dumps(record)}")


counts = collections.Counter()
for path in args.files:
    data = path.read_bytes()
    if data[:1] != b"\x1e":
        sys.exit(f"{path.name}: does not begin with a record separator")
    records = data[1:].split(b"\x1e")
    for index, octets in enumerate(records):
        where = f"{path.name}, record {index}"
        if not octets.endswith(b"\n"):
            sys.exit(f"{where}: does not end with a line feed")
        record = json.loads(octets)
        if index == 0:
            check(where, record, "QlogFileSeq")
            continue
        if record.get("name") not in EVENTS:
            sys.exit(f"{where}: event {record.get('name')}")
        check(where, record, "Checked" + EVENTS[record["name"]])
        counts[record["name"]] += 1
        for frame in record["data"].get("frames", []):
            counts[frame["frame_type"]] += 1
print(json.dumps(counts))
