#pragma once
// Sockets, batches and events: what the Reactor room cannot say in Swift (control-message macros, option tables,
// signal handlers). Every function that can fail returns a negative errno and leaves the global errno alone.

#if !defined(__linux__)
#error "Flexicast runs on Linux only: it needs recvmmsg, UDP segmentation offload and io_uring or epoll"
#endif

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

// MARK: addresses

/// An IPv4 or IPv6 endpoint in host byte order.
struct fcio_address {
    uint64_t high;   // upper half of an IPv6 address
    uint64_t low;    // lower half of an IPv6 address, or the IPv4 address
    uint32_t scope;  // interface index of a link-local IPv6 address, else 0
    uint16_t port;
    uint8_t family;  // 4, 6, or 0 for "no address"
};

struct sockaddr;

/// Decodes a socket address; an IPv4-mapped IPv6 address becomes IPv4. Family 0 when it is neither.
struct fcio_address fcio_address_decode(const struct sockaddr *address);

// MARK: sockets (io_socket.c)

/// A non-blocking, close-on-exec UDP socket of `family` 4 or 6.
int fcio_udp_socket(int family);
int fcio_bind(int fd, int family, struct fcio_address to);
int fcio_local_address(int fd, struct fcio_address *out);
/// Which address of this machine the routing table has packets to `to` come from.
int fcio_address_toward(struct fcio_address to, struct fcio_address *out);

// Makes a UDP socket of another's making fit for use here: its version of IP (4 or 6) and what it is bound to, or a negative errno.
int fcio_adopt_udp(int fd, struct fcio_address *out);

enum fcio_option {
    fcio_reuse_address,
    fcio_reuse_port,
    fcio_receive_buffer,       // octets; past rmem_max where the privilege is there
    fcio_send_buffer,          // octets; past wmem_max where the privilege is there
    fcio_receive_coalescing,   // UDP_GRO
    fcio_only_ipv6,
    fcio_unicast_ttl,
    fcio_multicast_ttl,
    fcio_multicast_loop,
    fcio_multicast_interface,  // interface index
    fcio_multicast_all,        // deliver groups that other sockets of this host have joined
    fcio_dont_fragment,        // 1: DF set and the cached path MTU ignored; 0: DF clear
    fcio_receive_details,      // local address, ECN and drop count with each datagram
    fcio_receive_errors,       // ICMP errors about what was sent are kept for fcio_next_error
};

/// Sets one option, on both address families where an IPv6 socket serves both.
int fcio_set_option(int fd, int family, enum fcio_option option, int value);

/// The size the kernel granted: SO_RCVBUF when `receive`, else SO_SNDBUF.
int fcio_buffer_size(int fd, bool receive);

/// Joins (or leaves) a group; `source.family` 0 is any source, `interface` 0 the routing table's choice.
int fcio_membership(int fd, bool join, struct fcio_address group, struct fcio_address source, unsigned interface);

/// A non-blocking TCP socket on its way to a server: writable once it is connected.
int fcio_tcp_connect(struct fcio_address to);
/// A TCP socket that listens; -EADDRINUSE and the like when it cannot.
int fcio_tcp_listen(struct fcio_address at);
/// A copy of a descriptor that this process was started with, if it is a TCP socket that listens; -EINVAL if it does not,
/// -ENOTSOCK when it is none.
int fcio_tcp_adopt(int fd);
/// Hands octets to a connected socket without waiting: how many it took, or a negative errno.
ssize_t fcio_tcp_send(int fd, const uint8_t *octets, size_t count);

/// A descriptor that has something to read when interfaces or addresses change, or a negative errno.
int fcio_network_watch(void);

/// The MTU of an interface by name.
int fcio_interface_mtu(const char *name);

// MARK: batches (io_batch.c)

enum {
    fcio_batch_limit = 64,     // messages per system call, either way
    fcio_segment_limit = 128,  // datagrams per received message; the kernel builds no larger one (UDP_MAX_SEGMENTS)
    fcio_message_room = 65536, // octets of one received message
};

/// One received message: a datagram, or several of one sender that the kernel coalesced (UDP_GRO).
struct fcio_message {
    struct fcio_address source;
    struct fcio_address local;  // the destination in its IP header; port 0
    uint8_t *octets;            // its datagrams, back to back
    uint32_t count;
    uint32_t segment;           // octets of each of them but the last; 0: the message was given up
    uint32_t interface;
    uint16_t buffer;            // io_uring: the buffer to give back
    uint8_t ecn;
};

struct fcio_datagram {
    uint8_t *octets;
    uint32_t count;
    uint32_t message;           // index of its message
};

/// What one receive call brought.
struct fcio_inbox {
    struct fcio_message *messages;
    struct fcio_datagram *datagrams;  // once it is split
    uint32_t message_count;
    uint32_t datagram_count;
    uint32_t truncated;         // messages given up because they, or their control data, were cut
    uint32_t drops;             // the socket's total of datagrams dropped in the kernel, when has_drops
    bool has_drops;
    bool is_split;
    uint64_t octets;
    struct fcio_slots *slots;   // recvmmsg's arena, made on first use
};

struct fcio_inbox *fcio_inbox_create(void);
void fcio_inbox_destroy(struct fcio_inbox *inbox);
void fcio_inbox_clear(struct fcio_inbox *inbox);
bool fcio_inbox_is_full(const struct fcio_inbox *inbox);

/// One recvmmsg of at most `limit` messages into a cleared inbox: how many came, or a negative errno.
int fcio_receive(struct fcio_inbox *inbox, int fd, unsigned limit);

struct msghdr;
/// Adds a message that lies at `octets`; `header` gives its name, control data and flags.
void fcio_inbox_add(struct fcio_inbox *inbox, struct msghdr *header, uint8_t *octets, uint32_t count, uint16_t buffer);

/// Splits what came into datagrams: not every reader wants them one by one.
void fcio_inbox_split(struct fcio_inbox *inbox);

/// Datagrams of equal size to one destination, back to back; the last may be shorter.
struct fcio_run {
    uint8_t *octets;
    uint32_t count;
    uint16_t segment;           // octets of each datagram but the last
    uint16_t segments;          // how many datagrams
    uint16_t chunk;             // the arena chunk that holds it
    uint8_t ecn;
    bool plain;                 // one message per datagram: segmentation was refused
    bool held;                  // sent without a copy: the kernel reads its octets until it gives the chunk back
    struct fcio_address to;
    struct fcio_address from;   // family 0: the kernel chooses
};

/// Messages ready for one sendmmsg or one io_uring submission.
struct fcio_outbox;

struct fcio_outbox *fcio_outbox_create(void);
void fcio_outbox_destroy(struct fcio_outbox *outbox);

/// Builds messages from `count` runs on a socket of `family`, the first `skip` datagrams of the first run left out
/// (plain runs only). Returns how many messages there are, at most fcio_batch_limit.
unsigned fcio_outbox_fill(
    struct fcio_outbox *outbox, int family, const struct fcio_run *runs, unsigned count, unsigned skip);

/// Sends the first `count` messages: how many went, or the negative errno of the first when none did.
int fcio_outbox_send(struct fcio_outbox *outbox, int fd, unsigned count);
struct msghdr *fcio_outbox_header(struct fcio_outbox *outbox, unsigned index);

// MARK: errors (io_error.c)

/// What ICMP says of a datagram that a socket sent.
struct fcio_error {
    struct fcio_address to;        // where the datagram was sent to
    struct fcio_address reporter;  // who says so; family 0 when unknown
    uint32_t info;                 // the MTU, where it is about that
    uint32_t count;                // octets quoted of the datagram's payload
    uint8_t family;                // ICMP of IP version 4 or 6; 0: this host says so
    uint8_t type;
    uint8_t code;
};

/// Takes the oldest error off the socket's queue, and at most `room` octets of the payload that it quotes: 1, 0 when
/// there is none, or a negative errno.
int fcio_next_error(int fd, struct fcio_error *out, uint8_t *quoted, size_t room);

// MARK: events (io_event.c)

/// Nanoseconds on CLOCK_MONOTONIC.
int64_t fcio_now(void);
/// Sleeps for so long, or until a signal comes.
void fcio_sleep(int64_t nanoseconds);
/// Asks the kernel to wake this thread as close to its deadlines as it can.
void fcio_precise_timers(void);

enum { fcio_readable = 1, fcio_writable = 2 };

struct fcio_event {
    uint64_t token;
    uint32_t interest;          // fcio_readable | fcio_writable; errors and hang-ups count as readable
};

int fcio_epoll_create(void);
/// Adds or changes (`change`) what is awaited of `fd`.
int fcio_epoll_set(int epoll, int fd, uint32_t interest, uint64_t token, bool change);
int fcio_epoll_remove(int epoll, int fd);
/// Waits for at most `nanoseconds` (negative: for ever): how many events, or a negative errno.
int fcio_epoll_wait(int epoll, struct fcio_event *events, unsigned limit, int64_t nanoseconds);

int fcio_eventfd(void);
void fcio_eventfd_signal(int fd);
void fcio_eventfd_drain(int fd);

/// From now on signal `number` makes eventfd `fd` readable instead of its default action. One watcher per signal in
/// a process: -EBUSY otherwise.
int fcio_signal_watch(int number, int fd);
/// Restores what the signal did before.
void fcio_signal_unwatch(int number);

int fcio_pidfd(pid_t process);
/// Collects an exited child: 0 with its code or (`by_signal`) signal number; -EAGAIN while it still runs.
int fcio_reap(int pidfd, int *code, bool *by_signal);

/// Reads what is there without waiting, whatever the descriptor's own mode: octets, 0 at the end, negative errno.
ssize_t fcio_read_now(int fd, void *into, size_t limit);

// MARK: captured packets (io_packet.c)

/// A packet socket that sees multicast IP packets on `interface` (0: on all). With `outgoing` also those that this host
/// sends. Needs CAP_NET_RAW.
int fcio_packet_socket(unsigned interface, bool outgoing, unsigned receive_buffer);

/// Packets the kernel counted since the last call, and of those the ones dropped for want of room.
int fcio_packet_statistics(int fd, uint32_t *seen, uint32_t *dropped);

enum { fcio_packet_headroom = 2 };  // octets before each packet that may be written

/// One captured packet.
struct fcio_packet {
    uint8_t *octets;            // the IP header first
    uint32_t count;
    uint32_t segment;           // not 0: UDP payload octets of each datagram of a sender's segmented send
};

struct fcio_capture;
struct fcio_capture *fcio_capture_create(void);
void fcio_capture_destroy(struct fcio_capture *capture);

/// Takes what is there, at most fcio_batch_limit packets, in place of what was: how many messages came, or a negative
/// errno. Checksums that the sender left to its interface are filled in, but for segmented sends.
int fcio_capture_receive(struct fcio_capture *capture, int fd);
/// The packets of the last receive that can be used.
uint32_t fcio_capture_count(const struct fcio_capture *capture);
struct fcio_packet fcio_capture_packet(const struct fcio_capture *capture, uint32_t index);
/// How many messages of the last receive were cut short or no IP.
uint32_t fcio_capture_unusable(const struct fcio_capture *capture);

/// A raw socket that gets the ICMP errors of `family` 4 or 6 which come to this host: unreachable, and packet too big. Needs
/// CAP_NET_RAW.
int fcio_icmp_socket(int family);
/// Sends an ICMP message, without IP header, by such a socket: 0 or a negative errno.
int fcio_icmp_send(int fd, const uint8_t *octets, size_t count, struct fcio_address to);

/// Makes the TUN interface `name`, brings it up and returns its descriptor. Needs CAP_NET_ADMIN.
int fcio_tun(const char *name);
int fcio_write_packet(int fd, const uint8_t *octets, size_t count);

/// A socket that sends multicast packets as they are on any interface, by `fcio_link_send`. Needs CAP_NET_RAW.
int fcio_link_socket(void);
/// Sends a multicast IP packet, its IP header first, to all on the link: 0 or a negative errno. This host's own members do
/// not hear it.
int fcio_link_send(int fd, unsigned interface, const uint8_t *octets, size_t count);

// MARK: multicast routing (io_mroute.c)

/// The one socket that is the kernel's IPv4 multicast router: its routes go when it is closed. It also gets the IGMP
/// messages of groups it has joined. Needs CAP_NET_ADMIN; -EADDRINUSE when there is a router already.
int fcio_mroute_socket(void);
/// Makes an interface number `number` of the router, below 32.
int fcio_mroute_interface(int fd, uint16_t number, unsigned interface);
/// Adds or removes the route of a source's packets to a group from one interface of the router to another.
int fcio_mroute_route(int fd, bool add, uint32_t source, uint32_t group, uint16_t from, uint16_t to);
