"""Hostile receivers for the tests, on aioquic: members of a flow that break its rules on purpose.

Prints "ready 0" once they do what they are here for, and ends when its standard input does, with one JSON object of what came
of it: connections that were made and refused, and members that were told to LEAVE.

A member never reads the flow's data. It joins the group to see the packet numbers, for which header protection is enough.
"""
import argparse, json, select, socket, ssl, struct, sys, time
from aioquic import tls
from aioquic.buffer import Buffer, encode_uint_var as varint
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoContext
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted
from aioquic.quic.packet import decode_packet_number
from aioquic.quic.packet_builder import QuicPacketBuilderStop

ANNOUNCE, STATE, KEY, PATH_ACK = 0xF2, 0xF4, 0xF5, 0x3E
JOIN, READY = 1, 3
PLENTY = 1 << 40
ONE_RTT = frozenset([tls.Epoch.ONE_RTT])
SUITES = {0x1301: tls.CipherSuite.AES_128_GCM_SHA256, 0x1302: tls.CipherSuite.AES_256_GCM_SHA384,
          0x1303: tls.CipherSuite.CHACHA20_POLY1305_SHA256}
CONNECTION_REFUSED = 0x02


class Connection(QuicConnection):
    """A connection that knows the extension's frames and sends any frame that it is given."""

    def __init__(self, *args, offer, **kwargs):
        super().__init__(*args, **kwargs)
        self.offer, self.frames = offer, []
        self.announced = self.key = None
        self.leaves = 0
        handlers = self._QuicConnection__frame_handlers
        handlers[ANNOUNCE] = (self.announce_received, ONE_RTT)
        handlers[STATE] = (self.state_received, ONE_RTT)
        handlers[KEY] = (self.key_received, ONE_RTT)

    def announce_received(self, context, frame_type, buffer):
        flow = buffer.pull_bytes(buffer.pull_uint8())
        buffer.pull_uint_var()
        length = 4 if buffer.pull_uint8() == 4 else 16
        buffer.pull_bytes(length)
        group = buffer.pull_bytes(length)
        port = buffer.pull_uint16()
        buffer.pull_uint64()
        self.announced = (flow, group, port)

    def state_received(self, context, frame_type, buffer):
        buffer.pull_bytes(buffer.pull_uint8())
        buffer.pull_uint_var()
        buffer.pull_uint64()
        self.leaves += 1

    def key_received(self, context, frame_type, buffer):
        buffer.pull_bytes(buffer.pull_uint8())
        buffer.pull_uint_var()
        buffer.pull_uint_var()
        secret = buffer.pull_bytes(buffer.pull_uint_var())
        suite = buffer.pull_uint64()
        self.key = (suite, secret)

    def _serialize_transport_parameters(self):
        octets = super()._serialize_transport_parameters()
        for number, value in self.offer.items():
            octets += varint(number) + varint(len(value)) + value
        return octets

    def _write_connection_limits(self, builder, space):
        # What was granted at first is all that there is: nothing is renewed.
        while self.frames and self._handshake_complete:
            frame_type, body = self.frames[0]
            try:
                buffer = builder.start_frame(frame_type, capacity=len(body) + 2)
            except QuicPacketBuilderStop:
                return
            buffer.push_bytes(body)
            self.frames.pop(0)


class Member:
    """One hostile receiver."""

    def __init__(self, port, local, octets=PLENTY, flexicast=True, takes_answers=True):
        configuration = QuicConfiguration(
            is_client=True, alpn_protocols=["flexicast/2"], verify_mode=ssl.CERT_NONE, server_name="localhost",
            idle_timeout=60, max_data=octets, max_stream_data=16 << 20)
        self.quic = Connection(
            configuration=configuration, offer={0x3E: varint(16), 0xEDF3: b"\x01\x01"} if flexicast else {})
        self.quic._local_max_streams_uni.value = PLENTY
        if not takes_answers:
            self.quic._local_max_stream_data_bidi_local = 0
        self.peer = ("127.0.0.1", port)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((local, 0))
        self.socket.setblocking(False)
        self.group = self.header = None
        self.seen, self.largest, self.sequence, self.stated = {}, -1, 0, 0
        self.is_connected = self.is_refused = self.is_closed = self.has_joined = self.is_ready = False
        self.joined_at = self.acted_at = 0.0
        self.quic.connect(self.peer, now=time.monotonic())
        # Only what was advertised stands; aioquic's own check of what comes would only end the test.
        self.flush()
        self.quic._local_max_streams_uni.value = 1 << 58
        self.quic._local_max_data.value = 1 << 58

    def flush(self):
        for octets, _ in self.quic.datagrams_to_send(now=time.monotonic()):
            try:
                self.socket.sendto(octets, self.peer)
            except BlockingIOError:
                pass

    def sockets(self):
        return [self.socket] + ([self.group] if self.group else [])

    def receive(self, readable):
        now = time.monotonic()
        if self.socket in readable:
            while True:
                try:
                    self.quic.receive_datagram(self.socket.recv(65535), self.peer, now)
                except BlockingIOError:
                    break
        if self.group in readable:
            while True:
                try:
                    self.packet_heard(self.group.recv(65535), now)
                except BlockingIOError:
                    break
        timer = self.quic.get_timer()
        if timer is not None and now >= timer:
            self.quic.handle_timer(now)
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                self.is_connected = True
            elif isinstance(event, ConnectionTerminated):
                self.is_closed = True
                self.is_refused = self.is_refused or event.error_code == CONNECTION_REFUSED

    def state(self, action):
        flow = self.quic.announced[0]
        self.quic.frames.append(
            (STATE, bytes([len(flow)]) + flow + varint(self.sequence) + struct.pack(">Q", action)))
        self.sequence += 1

    def join(self):
        """Goes through JOIN and READY, as far as the source lets it."""
        if self.quic.announced and not self.has_joined:
            self.has_joined = True
            self.joined_at = time.monotonic()
            self.state(JOIN)
        if self.quic.key and not self.is_ready:
            self.is_ready = True
            suite, secret = self.quic.key
            self.header = CryptoContext()
            self.header.setup(cipher_suite=SUITES.get(suite, SUITES[0x1301]), secret=secret, version=1)
            _, group, port = self.quic.announced
            self.group = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.group.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.group.bind((socket.inet_ntoa(group), port))
            self.group.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + socket.inet_aton("127.0.0.1"))
            self.group.setblocking(False)
            self.state(READY)

    def packet_heard(self, packet, now):
        length = len(self.quic.announced[0])
        if packet[1:1 + length] != self.quic.announced[0]:
            return
        header, truncated = self.header.hp.remove(packet, 1 + length)
        number = decode_packet_number(truncated, ((header[0] & 3) + 1) * 8, self.largest + 1)
        self.largest = max(self.largest, number)
        self.seen.setdefault(number, now)

    def acknowledge(self, numbers):
        """A PATH_ACK of the newest 64 ranges of these numbers."""
        numbers = sorted(numbers, reverse=True)
        if not numbers:
            return
        ranges = []
        for number in numbers:
            if ranges and ranges[-1][0] == number + 1:
                ranges[-1][0] = number
            else:
                if len(ranges) == 64:
                    break
                ranges.append([number, number])
        body = varint(1) + varint(ranges[0][1]) + varint(0) + varint(len(ranges) - 1)
        body += varint(ranges[0][1] - ranges[0][0])
        for before, this in zip(ranges, ranges[1:]):
            body += varint(before[0] - this[1] - 2) + varint(this[1] - this[0])
        self.quic.frames.append((PATH_ACK, body))

    def state_position(self):
        prefix = b"%d" % self.stated
        body = varint(1) + varint(0) + varint(0) + varint(0) + varint(1) + varint(len(prefix)) + prefix
        self.quic.send_stream_data(0, varint(0) + varint(len(body)) + body)
        self.stated += 1

    def every(self, seconds):
        now = time.monotonic()
        if now - self.acted_at < seconds:
            return False
        self.acted_at = now
        return True


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["stuck", "newcomers", "staggered", "lossy", "late", "inventive", "idle", "mute"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, default=1)
    return parser.parse_args()


arguments = parse()


def act(member):
    """What makes a member hostile."""
    now = time.monotonic()
    if arguments.kind == "idle":
        if member.is_connected and member.every(0.2):
            member.quic.send_ping(0)
        return
    if arguments.kind == "mute":
        # Where it is, again and again, and with other wants each time.
        if member.is_connected and member.every(0.005):
            member.state_position()
        return
    member.join()
    if not member.is_ready:
        return
    # What is long past does not matter.
    for number in [number for number in member.seen if number < member.largest - 5000]:
        del member.seen[number]
    if arguments.kind in ("stuck", "newcomers", "staggered"):
        if member.seen and member.every(0.05):
            member.acknowledge([min(member.seen)])
    elif arguments.kind == "lossy":
        if member.every(0.025):
            member.acknowledge([number for number in member.seen if number % 6])
    elif arguments.kind == "late":
        if member.every(0.1):
            member.acknowledge([number for number, at in member.seen.items() if now - at > 2.5])
    elif arguments.kind == "inventive":
        if member.seen and member.every(0.1):
            member.acknowledge([member.largest + 1_000_000])


def credit(index):
    if arguments.kind in ("stuck", "newcomers"):
        return 0
    return (index + 1) * 700 if arguments.kind == "staggered" else PLENTY


def address(index):
    # Strangers do not share an address, unless it is that which is tried.
    return "127.0.0.2" if arguments.kind == "idle" else f"127.0.1.{index % 250 + 1}"


members, made, is_told = [], 0, False
next_at = time.monotonic()
poll = select.poll()
while True:
    now = time.monotonic()
    at_once = arguments.kind != "newcomers"
    while made < arguments.count and (at_once or now >= next_at):
        members.append(Member(arguments.port, address(made), credit(made), arguments.kind not in ("idle", "mute"),
                              arguments.kind != "mute"))
        made += 1
        next_at = now + 0.7
        if at_once and made % 8 == 0:
            break
    poll = select.poll()
    by_descriptor = {}
    for member in members:
        for one in member.sockets():
            by_descriptor[one.fileno()] = one
            poll.register(one, select.POLLIN)
    poll.register(sys.stdin, select.POLLIN | select.POLLHUP)
    ready = poll.poll(10)
    if any(descriptor == sys.stdin.fileno() for descriptor, _ in ready):
        break
    readable = {by_descriptor[descriptor] for descriptor, _ in ready}
    for member in members:
        member.receive(readable)
        if not member.is_closed:
            act(member)
        member.flush()
    if arguments.kind in ("idle", "mute"):
        is_there = made == arguments.count and all(member.is_connected or member.is_closed for member in members)
    else:
        is_there = members and (members[0].is_ready or members[0].quic.leaves or members[0].is_closed)
        if not at_once or arguments.count > 1:
            is_there = is_there and (made == arguments.count or not at_once)
    if is_there and not is_told:
        is_told = True
        print("ready 0", flush=True)
print(json.dumps({
    "connected": sum(member.is_connected for member in members),
    "refused": sum(member.is_refused for member in members),
    "ready": sum(member.is_ready for member in members),
    "left": sum(member.quic.leaves > 0 for member in members),
    "heard": sum(len(member.seen) for member in members),
}), flush=True)
