#!/usr/bin/env python3
"""Checks the files beside it, or others of their form, against the drafts and RFCs, and against aioquic's packet protection.

It takes nothing from the Swift code: keys are derived with HMAC (RFC 8446 section 7.1), packets are sealed with the library
"cryptography" and opened with aioquic, frames are read and written from their figures (draft-navarre-quic-flexicast-02 section 11,
draft-ietf-quic-multipath-21 section 4.1). docs/vectors.md explains the files.

Usage: check.py [FILE]... Exit status 1 and a line for the first thing that is wrong.
"""
import hashlib
import hmac
import ipaddress
import json
import pathlib
import sys

from aioquic.quic.crypto import CryptoContext
from aioquic.tls import CipherSuite
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

# TLS code point: hash, octets of a key, AEAD.
SUITES = {
    0x1301: (hashlib.sha256, 16, AESGCM),
    0x1302: (hashlib.sha384, 32, AESGCM),
    0x1303: (hashlib.sha256, 32, ChaCha20Poly1305),
}


class Wrong(Exception):
    pass


def same(what, ours, theirs):
    if ours != theirs:
        raise Wrong(f"{what}: {theirs} in the file, should be {ours}")


# -- RFC 8446 section 7.1, RFC 9001 section 5 --


def expand_label(digest, secret, label, length):
    name = b"tls13 " + label.encode()
    info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.new(secret, block + info + bytes([counter]), digest).digest()
        out, counter = out + block, counter + 1
    return out[:length]


def mask_of(suite, key, sample):
    if suite == 0x1303:
        return Cipher(algorithms.ChaCha20(key, sample), None).encryptor().update(bytes(5))
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(sample)[:5]


def check_packet(suite, flow_id, keys, packet, octets):
    key = keys[packet["generation"]]
    number = packet["number"]
    # A short header: fixed bit, key phase, four octets of packet number (RFC 9000 section 17.3.1).
    header = bytes([0x43 | (packet["generation"] & 1) << 2]) + flow_id + number.to_bytes(8, "big")[4:]
    same("header", header.hex(), packet["header"])
    nonce = bytes(a ^ b for a, b in zip(key["iv"], number.to_bytes(12, "big")))
    same("nonce", nonce.hex(), packet["nonce"])
    payload = bytes.fromhex(packet["payload"])
    sealed = SUITES[suite][2](key["key"]).encrypt(nonce, payload, header)
    # The sample begins four octets after the packet number does (RFC 9001 section 5.4.2).
    sample = sealed[:16]
    same("sample", sample.hex(), packet["sample"])
    mask = mask_of(suite, key["header_protection"], sample)
    mask = bytes([mask[0] & 0x1F]) + mask[1:]
    same("mask", mask.hex(), packet["mask"])
    masked = bytes([header[0] ^ mask[0]]) + flow_id + bytes(a ^ b for a, b in zip(header[-4:], mask[1:]))
    same("packet", (masked + sealed).hex(), octets)

    context = CryptoContext()
    context.setup(cipher_suite=CipherSuite(suite), secret=key["secret"], version=1)
    context.key_phase = packet["generation"] & 1
    opened = context.decrypt_packet(bytes.fromhex(octets), 1 + len(flow_id), key["first_packet_number"])
    same("what aioquic opens", (opened[0].hex(), opened[1].hex(), opened[2]), (packet["header"], packet["payload"], number))
    return payload


# -- RFC 9000 sections 16 and 19 --


class Reader:
    def __init__(self, octets):
        self.octets, self.at = octets, 0

    def take(self, count):
        if self.at + count > len(self.octets):
            raise Wrong("a frame ends too early")
        self.at += count
        return self.octets[self.at - count : self.at]

    def number(self, octets):
        return int.from_bytes(self.take(octets), "big")

    def varint(self):
        length = 1 << (self.octets[self.at] >> 6)
        return self.number(length) & (1 << (8 * length - 2)) - 1

    def done(self):
        return self.at == len(self.octets)


def read_stream_frames(payload, streams):
    reader = Reader(payload)
    while not reader.done():
        kind = reader.varint()
        if kind in (0, 1):
            continue
        if not 0x08 <= kind <= 0x0F:
            raise Wrong(f"frame 0x{kind:x} on the flow")
        stream = reader.varint()
        offset = reader.varint() if kind & 4 else 0
        data = reader.take(reader.varint() if kind & 2 else len(payload) - reader.at)
        have = streams.setdefault(stream, {"octets": bytearray(), "fin": False})
        same(f"offset in stream {stream}", len(have["octets"]), offset)
        have["octets"] += data
        have["fin"] = bool(kind & 1)


# -- draft-navarre-quic-flexicast-02 section 11, draft-ietf-quic-multipath-21 section 4.1 --

TYPES = {0xF2: "FC_ANNOUNCE", 0xF4: "FC_STATE", 0xF5: "FC_KEY", 0x3E: "PATH_ACK", 0x3F: "PATH_ACK"}
ACTIONS = {1: "JOIN", 2: "LEAVE", 3: "READY"}


def read_frame(octets, flow_id):
    reader = Reader(octets)
    kind = reader.varint()
    frame = {"type": TYPES.get(kind)}
    if kind in (0x3E, 0x3F):
        frame["path_id"] = reader.varint()
        frame["largest"] = reader.varint()
        frame["encoded_ack_delay"] = reader.varint()
        count = reader.varint()
        low = frame["largest"] - reader.varint()
        frame["ranges"] = [[low, frame["largest"]]]
        for _ in range(count):
            high = low - reader.varint() - 2
            low = high - reader.varint()
            frame["ranges"].append([low, high])
        if kind & 1:
            frame["ecn"] = [reader.varint() for _ in range(3)]
    else:
        same("flow ID", flow_id.hex(), reader.take(reader.number(1)).hex())
        frame["sequence"] = reader.varint()
        if kind == 0xF2:
            size = {4: 4, 6: 16}[reader.number(1)]
            frame["source"] = str(ipaddress.ip_address(reader.take(size)))
            frame["group"] = str(ipaddress.ip_address(reader.take(size)))
            frame["port"] = reader.number(2)
            frame["ack_delay_milliseconds"] = reader.number(8)
        elif kind == 0xF4:
            frame["action"] = ACTIONS[reader.number(8)]
        elif kind == 0xF5:
            frame["packet_number"] = reader.varint()
            frame["secret"] = reader.take(reader.varint()).hex()
            frame["algorithm"] = f"{reader.number(8):04x}"
    if not reader.done():
        raise Wrong(f"octets after {frame['type']}")
    return frame


def check_flow(flow):
    same("flexicast_support", "0101", flow["flexicast_support"])
    suite = int(flow["suite"], 16)
    digest, length, _ = SUITES[suite]
    flow_id = bytes.fromhex(flow["flow_id"])
    keys = {}
    for key in flow["keys"]:
        secret = bytes.fromhex(key["secret"])
        same("octets of a secret", digest().digest_size, len(secret))
        derived = {"secret": secret, "first_packet_number": key["first_packet_number"]}
        for name, label, size in [("key", "quic key", length), ("iv", "quic iv", 12), ("header_protection", "quic hp", length)]:
            derived[name] = expand_label(digest, secret, label, size)
            same(name, derived[name].hex(), key[name])
        keys[key["generation"]] = derived

    told = {}
    streams = {}
    sent = set()
    for step in flow["steps"]:
        if step["from"] == "flow":
            packet = step["packet"]
            key = keys[packet["generation"]]
            if packet["generation"] not in told or packet["number"] < told[packet["generation"]]:
                raise Wrong(f"packet {packet['number']} comes before FC_KEY has told of its key")
            sent.add(packet["number"])
            read_stream_frames(check_packet(suite, flow_id, keys, packet, step["octets"]), streams)
            continue
        frame = read_frame(bytes.fromhex(step["octets"]), flow_id)
        same(f"{step['from']}: {step['what']}", frame, step["frame"])
        if frame["type"] == "FC_KEY":
            generation = next(g for g, k in keys.items() if k["secret"].hex() == frame["secret"])
            same("algorithm", flow["suite"], frame["algorithm"])
            told[generation] = frame["packet_number"]
        if frame["type"] == "PATH_ACK":
            named = {n for low, high in frame["ranges"] for n in range(low, high + 1)}
            if not named <= sent:
                raise Wrong(f"packets {sorted(named - sent)} are acknowledged and were not sent")
    for stream, octets in flow["streams"].items():
        have = streams.pop(int(stream), None)
        same(f"stream {stream}", (octets, True), (have and have["octets"].hex(), have and have["fin"]))
    same("streams that are not listed", {}, streams)
    return sum(step["from"] == "flow" for step in flow["steps"])


def main():
    paths = [pathlib.Path(name) for name in sys.argv[1:]] or sorted(pathlib.Path(__file__).parent.glob("*.json"))
    packets = 0
    for path in paths:
        try:
            packets += check_flow(json.loads(path.read_text()))
        except Wrong as error:
            sys.exit(f"{path.name}: {error}")
        except Exception as error:
            sys.exit(f"{path.name}: {type(error).__name__}: {error}")
    print(f"{len(paths)} flows, {packets} packets: right")


main()
