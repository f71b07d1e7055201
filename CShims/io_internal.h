#pragma once
// Shared by the io_*.c files; not seen by Swift.

#include <netinet/in.h>
#include <sys/socket.h>

#include "include/io.h"

/// Writes `address` as a socket of `family` wants it (IPv4 becomes IPv4-mapped on an IPv6 socket); returns its size.
socklen_t fcio_encode_address(struct sockaddr_storage *out, int family, struct fcio_address address);
struct in6_addr fcio_encode_ipv6(struct fcio_address address);
/// An IPv4-mapped address becomes IPv4; port and scope stay 0.
struct fcio_address fcio_decode_ipv6(const struct in6_addr *address);

enum {
    fcio_name_room = 32,      // a sockaddr_in6, padded so that what follows is aligned
    fcio_control_room = 192,  // all control messages the kernel may attach to one received message
};
