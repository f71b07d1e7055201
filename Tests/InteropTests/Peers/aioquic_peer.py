"""A third-party QUIC endpoint for the tests: aioquic as client or as server.

Protocol, on one bidirectional stream: the client sends "GET <n>" and ends; the server sends n octets of a pattern and ends.
Or the client sends "PUT" and octets; the server answers with their count and SHA-256.
The client prints one JSON object. The server prints "ready <port>" and runs until its standard input ends.
The receiver takes <size> streams that the server opens and prints the SHA-256 of each, or why the connection ended. With
<datagrams> it announces how large a DATAGRAM frame it takes, and prints those that have come by then in hexadecimal.
"""
import argparse, asyncio, hashlib, json, random, socket, sys
from aioquic.buffer import Buffer
from aioquic.asyncio import connect, serve
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, DatagramFrameReceived, HandshakeCompleted, StreamDataReceived
from aioquic.tls import CipherSuite


def pattern(count):
    block = bytes((i * 31 + 7) % 251 for i in range(251))
    return (block * (count // 251 + 1))[:count]


class Lossy:
    """Loses a share of the datagrams in both directions."""

    def __init__(self, transport, share, seed):
        self.transport, self.share, self.random = transport, share, random.Random(seed)

    def sendto(self, data, addr=None):
        if self.random.random() >= self.share:
            self.transport.sendto(data, addr)

    def __getattr__(self, name):
        return getattr(self.transport, name)


class Peer(QuicConnectionProtocol):
    loss = 0.0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.buffers = {}
        self.done = asyncio.get_event_loop().create_future()
        self.handshake = None
        self.dice = random.Random(5)

    def connection_made(self, transport):
        super().connection_made(Lossy(transport, self.loss, 6) if self.loss else transport)

    def datagram_received(self, data, addr):
        if self.loss and self.dice.random() < self.loss:
            return
        super().datagram_received(data, addr)

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.handshake = event
        elif isinstance(event, StreamDataReceived):
            buffer = self.buffers.setdefault(event.stream_id, bytearray())
            buffer += event.data
            if event.end_stream:
                self.stream_ended(event.stream_id, bytes(self.buffers.pop(event.stream_id)))
        elif isinstance(event, ConnectionTerminated) and not self.done.done():
            self.done.set_exception(RuntimeError(f"closed: 0x{event.error_code:x} {event.reason_phrase}"))

    def stream_ended(self, stream, data):
        if not self.done.done():
            self.done.set_result(data)


class Server(Peer):
    def stream_ended(self, stream, data):
        if data.startswith(b"GET "):
            answer = pattern(int(data[4:]))
        else:
            body = data[3:]
            answer = f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()
        self._quic.send_stream_data(stream, answer, end_stream=True)
        self.transmit()


class Forward(asyncio.DatagramProtocol):
    """The socket after a NAT rebinding: another port, the same connection."""

    def __init__(self, peer):
        self.peer = peer

    def datagram_received(self, data, addr):
        self.peer.datagram_received(data, addr)


async def rebind(peer):
    new = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    new.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    new.bind(("::", 0, 0, 0))
    old = peer._transport
    peer._transport, _ = await asyncio.get_event_loop().create_datagram_endpoint(lambda: Forward(peer), sock=new)
    old.close()
    await peer.ping()


async def exchange(args, configuration, tickets):
    async with connect(
        args.host, args.port, configuration=configuration, create_protocol=Peer,
        session_ticket_handler=tickets.append,
    ) as peer:
        await peer.wait_connected()
        if args.key_update:
            await peer.ping()
            peer.request_key_update()
            await peer.ping()
        stream = peer._quic.get_next_available_stream_id()
        request = f"GET {args.size}".encode() if not args.put else b"PUT" + pattern(args.size)
        peer._quic.send_stream_data(stream, request, end_stream=True)
        peer.transmit()
        if args.rebind:
            await rebind(peer)
        data = await peer.done
        await peer.ping()
        return {
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "answer": data.decode("ascii", "replace") if args.put else "",
            "resumed": peer.handshake.session_resumed,
            "retried": peer._quic._retry_source_connection_id is not None,
            "phase": peer._quic._cryptos[next(e for e in peer._quic._cryptos if e.name == "ONE_RTT")].key_phase,
            "cipher": peer._quic.tls.key_schedule.cipher_suite.name,
        }


async def client(args):
    Peer.loss = args.loss
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["transfer"], idle_timeout=30)
    configuration.load_verify_locations(args.ca)
    configuration.server_name = "localhost"
    if args.cipher:
        configuration.cipher_suites = [CipherSuite[args.cipher]]
    tickets = []
    result = await exchange(args, configuration, tickets)
    if args.resume:
        configuration.session_ticket = tickets[-1]
        result = await exchange(args, configuration, tickets)
    print(json.dumps(result))


async def server(args):
    Peer.loss = args.loss
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["transfer"], idle_timeout=30)
    configuration.load_cert_chain(args.cert, args.key)
    if args.cipher:
        configuration.cipher_suites = [CipherSuite[args.cipher]]
    store = {}
    running = await serve(
        args.host, args.port, configuration=configuration, create_protocol=Server, retry=args.retry,
        session_ticket_fetcher=store.pop, session_ticket_handler=lambda t: store.__setitem__(t.ticket, t),
    )
    port = running._transport.get_extra_info("sockname")[1]
    sys.stdout.write(f"ready {port}\n")
    sys.stdout.flush()
    await asyncio.get_event_loop().run_in_executor(None, sys.stdin.read)
    running.close()


class Receiver(Peer):
    """Takes streams that the server opens."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.streams = {}
        self.datagrams = []

    def quic_event_received(self, event):
        if isinstance(event, DatagramFrameReceived):
            self.datagrams.append(event.data.hex())
        elif isinstance(event, ConnectionTerminated) and not self.done.done():
            self.done.set_result({"error": event.error_code, "frame": event.frame_type, "streams": self.streams})
        else:
            super().quic_event_received(event)

    def stream_ended(self, stream, data):
        # Unidirectional streams are parts: a prelude (docs/objects.md), then the body.
        if stream & 3 != 3:
            return
        buffer = Buffer(data=data)
        assert buffer.pull_uint_var() == 1, "the version of a part"
        length = buffer.pull_uint_var()
        self.streams[stream] = hashlib.sha256(data[buffer.tell() + length :]).hexdigest()
        if len(self.streams) == self.wanted and not self.done.done():
            self.done.set_result({"error": None, "frame": None, "streams": self.streams})


async def receive(args):
    Receiver.wanted = args.size
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=["flexicast/2"], idle_timeout=30, max_datagram_frame_size=args.datagrams)
    configuration.load_verify_locations(args.ca)
    configuration.server_name = "localhost"
    if args.offer:
        # Parameters of extensions that aioquic has never heard of: it closes on the first frame of one.
        usual = QuicConnection._serialize_transport_parameters
        QuicConnection._serialize_transport_parameters = lambda self: usual(self) + bytes.fromhex(args.offer)
    async with connect(args.host, args.port, configuration=configuration, create_protocol=Receiver) as peer:
        await peer.wait_connected()
        # POSITION: version 1, no epoch, from 0 on, no ranges, everything.
        peer._quic.send_stream_data(peer._quic.get_next_available_stream_id(), bytes([0, 5, 1, 0, 0, 0, 0]))
        peer.transmit()
        result = await peer.done
        if result["error"] is None:
            # Time for what should not come: two round trips, and every timer of the other end's that is due.
            await peer.ping()
            await asyncio.sleep(args.linger)
            await peer.ping()
        print(json.dumps(result | {"datagrams": peer.datagrams}))


def open_packet(args):
    """Opens a packet of a multicast flow with the traffic secret of FC_KEY, by aioquic's own packet protection."""
    from aioquic.quic.crypto import CryptoContext
    from aioquic.tls import CipherSuite as Suite

    context = CryptoContext()
    context.setup(cipher_suite=Suite(args.suite), secret=bytes.fromhex(args.secret), version=1)
    packet = bytes.fromhex(sys.stdin.read().strip())
    header, payload, number, _ = context.decrypt_packet(packet, 1 + args.id_length, args.expected)
    print(json.dumps({"header": header.hex(), "payload": payload.hex(), "number": number}))


parser = argparse.ArgumentParser()
parser.add_argument("role", choices=["client", "server", "receiver", "open"])
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--size", type=int, default=0)
parser.add_argument("--ca")
parser.add_argument("--cert")
parser.add_argument("--key")
parser.add_argument("--cipher")
parser.add_argument("--loss", type=float, default=0.0)
parser.add_argument("--retry", action="store_true")
parser.add_argument("--resume", action="store_true")
parser.add_argument("--key-update", action="store_true")
parser.add_argument("--rebind", action="store_true")
parser.add_argument("--put", action="store_true")
parser.add_argument("--offer")
parser.add_argument("--datagrams", type=int)
parser.add_argument("--linger", type=float, default=0.0)
parser.add_argument("--suite", type=lambda t: int(t, 0), default=0x1301)
parser.add_argument("--secret")
parser.add_argument("--id-length", type=int, default=8)
parser.add_argument("--expected", type=int, default=0)
args = parser.parse_args()
if args.role == "open":
    open_packet(args)
else:
    asyncio.run({"client": client, "server": server, "receiver": receive}[args.role](args))
