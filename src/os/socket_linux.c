#include <arpa/inet.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/socket.h"

#define BACKLOG 1024

void socket_peer(struct net_peer *p, const struct sockaddr_storage *a, uint16_t *ret_port)
{
    if (a->ss_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const void *)a;
        if (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr))
            inet_ntop(AF_INET, six->sin6_addr.s6_addr + 12, p->host, sizeof p->host);
        else
            inet_ntop(AF_INET6, &six->sin6_addr, p->host, sizeof p->host);
        *ret_port = ntohs(six->sin6_port);
    } else {
        const struct sockaddr_in *four = (const void *)a;
        inet_ntop(AF_INET, &four->sin_addr, p->host, sizeof p->host);
        *ret_port = ntohs(four->sin_port);
    }
}

uint16_t socket_local_port(int fd)
{
    struct sockaddr_storage a = {0};
    socklen_t len = sizeof a;
    struct net_peer unused;
    uint16_t port = 0;
    if (getsockname(fd, (struct sockaddr *)&a, &len) == 0)
        socket_peer(&unused, &a, &port);
    return port;
}

uint64_t socket_acked_bytes(int fd, uint64_t sent_bytes)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
        return 0;
    // Our FIN counts as one more; nothing of ours was sent after it.
    return info.tcpi_bytes_acked < sent_bytes ? info.tcpi_bytes_acked : sent_bytes;
}

static int listen_at(const struct addrinfo *at, int *ret_fd)
{
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, at->ai_addr, at->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

int socket_listen(const char *host, uint16_t port, int *ret_fd)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    if (getaddrinfo(*host ? host : NULL, service, &hints, &found) != 0)
        return -EINVAL;
    int error = listen_at(found, ret_fd);
    freeaddrinfo(found);
    return error;
}
