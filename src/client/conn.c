#include "client/conn.h"

#include "wire/frame.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// SO_SNDTIMEO bounds connect() too.
static void set_timeouts(int fd, int timeout_ms)
{
    struct timeval limit = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000L};
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

int64_t conn_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int socket_errno(void)
{
    if (errno == EAGAIN || errno == EINPROGRESS)
        return -ETIMEDOUT;
    if (errno == ECONNRESET)
        return -EPIPE;
    return -errno;
}

int conn_open(struct conn *conn, int timeout_ms)
{
    char port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    snprintf(port, sizeof port, "%d", conn->port);
    if (getaddrinfo(conn->host, port, &hints, &found) != 0)
        return -ENOENT;

    int result = -ENOENT;
    for (struct addrinfo *at = found; at && result < 0; at = at->ai_next) {
        int fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            result = -errno;
            continue;
        }
        set_timeouts(fd, timeout_ms);
        result = connect(fd, at->ai_addr, at->ai_addrlen) < 0 ? socket_errno() : 0;
        if (result < 0)
            close(fd);
        else
            conn->fd = fd;
    }
    freeaddrinfo(found);
    return result;
}

void conn_close(struct conn *conn)
{
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
}

int conn_send(struct conn *conn, const void *data, size_t len)
{
    const char *at = data;
    while (len > 0) {
        ssize_t n = send(conn->fd, at, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return socket_errno();
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

static int receive_all(struct conn *conn, uint8_t *to, size_t len)
{
    while (len > 0) {
        ssize_t n = recv(conn->fd, to, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return socket_errno();
        if (n == 0)
            return -EPIPE;
        to += n;
        len -= (size_t)n;
        if (len > 0 && conn->answer_due_ms > 0 && conn_now_ms() > conn->answer_due_ms)
            return -ETIMEDOUT;
    }
    return 0;
}

int conn_receive(struct conn *conn, struct arena *a, struct bytes *ret_frame)
{
    uint8_t size[4];
    int result = receive_all(conn, size, sizeof size);
    if (result < 0)
        return result;
    size_t len = (size_t)size[0] << 24 | (size_t)size[1] << 16 | (size_t)size[2] << 8 | size[3];
    if (len > FRAME_MAX)
        return -EMSGSIZE;
    uint8_t *frame = arena_alloc(a, len);
    result = receive_all(conn, frame, len);
    if (result < 0)
        return result;
    *ret_frame = (struct bytes){frame, len};
    return 0;
}

const struct conn_api *conn_api(const struct conn *conn, int16_t key)
{
    for (int i = 0; i < conn->n_apis; i++) {
        if (conn->apis[i].key == key)
            return &conn->apis[i];
    }
    return NULL;
}
