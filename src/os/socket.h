#pragma once
// What net_linux.c asks the kernel about one socket. Real world only.

#include "os/net.h"

struct sockaddr_storage;

// The address as text, an IPv4 one in IPv6 as IPv4; and its port.
void socket_peer(struct net_peer *p, const struct sockaddr_storage *a, uint16_t *ret_port);
uint16_t socket_local_port(int fd);
// Of what was sent, how much the other kernel has acknowledged.
uint64_t socket_acked_bytes(int fd, uint64_t sent_bytes);
// "" is every address. 0 or -errno (-EINVAL: no such host).
MUST_USE int socket_listen(const char *host, uint16_t port, int *ret_fd);
