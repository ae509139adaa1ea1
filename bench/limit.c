// What this machine can do with nothing in the way, for the two data paths of a log broker, and
// how long a program takes until it answers. Results are JSON on one line.
//
//   limit ingest FRAME_BYTES MIB FILE   recv, crc32c, pwrite; a file that grows, then again over it
//   limit serve FRAME_BYTES MIB FILE    sendfile of a file in the page cache
//   limit sync BYTES N FILE             pwrite and fdatasync, N times
//   limit exchange CONNECTIONS N FILE   small requests, one in flight on each connection: what came
//                                       together is written and synced, then answered
//   limit start PORT COMMAND...         exec until the first ApiVersions answer on 127.0.0.1:PORT
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <nmmintrin.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// A log is cut into segments: the file is written round and round in this much.
#define FILE_BYTES (1ll << 30)
#define LANE_BYTES 4096u

extern char **environ;

static size_t frame_bytes;
static long long total_bytes;
static uint16_t port;

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "limit: %s: %s\n", what, strerror(errno));
    exit(2);
}

static int dial(void)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (s < 0)
        die("socket");
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(s, (struct sockaddr *)&a, sizeof a) == 0)
        return s;
    close(s);
    return -1;
}

static int listen_anywhere(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int l = socket(AF_INET, SOCK_STREAM, 0);
    if (l < 0 || bind(l, (struct sockaddr *)&a, len) < 0 || listen(l, 4096) < 0)
        die("listen");
    getsockname(l, (struct sockaddr *)&a, &len);
    port = ntohs(a.sin_port);
    return l;
}

static void *pump(void *arg)
{
    int s = dial();
    char *frame = malloc(frame_bytes);
    if (s < 0 || !frame)
        die("pump");
    memset(frame, 7, frame_bytes);
    for (long long done = 0; done < total_bytes; done += (long long)frame_bytes)
        for (size_t at = 0; at < frame_bytes;) {
            ssize_t n = send(s, frame + at, frame_bytes - at, 0);
            if (n <= 0)
                die("send");
            at += (size_t)n;
        }
    close(s);
    free(frame);
    return arg;
}

static void *drain(void *arg)
{
    int s = dial();
    size_t len = 1 << 20;
    char *to = malloc(len);
    if (s < 0 || !to)
        die("drain");
    while (recv(s, to, len, 0) > 0)
        ;
    close(s);
    free(to);
    return arg;
}

// Three lanes keep the instruction's latency hidden; the sum is of no use but the work is real.
__attribute__((target("sse4.2"))) static uint64_t crc(const char *from, size_t len)
{
    uint64_t sum[3] = {~0u, 0, 0};
    size_t at = 0;
    for (; at + 3 * LANE_BYTES <= len; at += 3 * LANE_BYTES)
        for (size_t i = 0; i < LANE_BYTES; i += 8)
            for (size_t lane = 0; lane < 3; lane++) {
                uint64_t word;
                memcpy(&word, from + at + lane * LANE_BYTES + i, sizeof word);
                sum[lane] = _mm_crc32_u64(sum[lane], word);
            }
    for (; at + 8 <= len; at += 8) {
        uint64_t word;
        memcpy(&word, from + at, sizeof word);
        sum[0] = _mm_crc32_u64(sum[0], word);
    }
    return sum[0] ^ sum[1] ^ sum[2];
}

static void take_frame(int s, char *frame)
{
    for (size_t at = 0; at < frame_bytes;) {
        ssize_t n = recv(s, frame + at, frame_bytes - at, 0);
        if (n <= 0)
            die("recv");
        at += (size_t)n;
    }
}

static void ingest(int listener, int file)
{
    char *frame = malloc(frame_bytes);
    uint64_t sum = 0;
    double wall[2], cpu[2];
    for (int pass = 0; frame && pass < 2; pass++) {
        pthread_t t;
        pthread_create(&t, NULL, pump, NULL);
        int s = accept(listener, NULL, NULL);
        wall[pass] = seconds(CLOCK_MONOTONIC);
        cpu[pass] = seconds(CLOCK_THREAD_CPUTIME_ID);
        for (long long done = 0; done < total_bytes; done += (long long)frame_bytes) {
            take_frame(s, frame);
            sum ^= crc(frame, frame_bytes);
            if (pwrite(file, frame, frame_bytes, done) != (ssize_t)frame_bytes)
                die("pwrite");
        }
        wall[pass] = seconds(CLOCK_MONOTONIC) - wall[pass];
        cpu[pass] = seconds(CLOCK_THREAD_CPUTIME_ID) - cpu[pass];
        pthread_join(t, NULL);
        close(s);
    }
    free(frame);
    double gb = (double)total_bytes / 1e9;
    printf("{\"cold_cpu_s_per_gb\":%.4f,\"cold_mb_per_s\":%.1f,\"warm_cpu_s_per_gb\":%.4f,"
           "\"warm_mb_per_s\":%.1f,\"crc\":%llu}\n",
           cpu[0] / gb, gb * 1000 / wall[0], cpu[1] / gb, gb * 1000 / wall[1],
           (unsigned long long)sum);
}

static void serve(int listener, int file)
{
    pthread_t t;
    if (posix_fallocate(file, 0, FILE_BYTES) != 0)
        die("fallocate");
    char *frame = calloc(1, frame_bytes);
    for (long long at = 0; frame && at + (long long)frame_bytes <= FILE_BYTES;
         at += (long long)frame_bytes)
        if (pwrite(file, frame, frame_bytes, at) < 0)
            die("pwrite");
    free(frame);
    pthread_create(&t, NULL, drain, NULL);
    int s = accept(listener, NULL, NULL);
    double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_THREAD_CPUTIME_ID);
    for (long long done = 0; done < total_bytes;) {
        off_t at = done % FILE_BYTES;
        ssize_t n = sendfile(s, file, &at, frame_bytes);
        if (n <= 0)
            die("sendfile");
        done += n;
    }
    wall = seconds(CLOCK_MONOTONIC) - wall;
    cpu = seconds(CLOCK_THREAD_CPUTIME_ID) - cpu;
    close(s);
    pthread_join(t, NULL);
    double gb = (double)total_bytes / 1e9;
    printf("{\"cpu_s_per_gb\":%.4f,\"mb_per_s\":%.1f}\n", cpu / gb, gb * 1000 / wall);
}

static void sync_often(size_t bytes, long n, int file)
{
    char *block = calloc(1, bytes);
    double wall = seconds(CLOCK_MONOTONIC);
    for (long i = 0; block && i < n; i++)
        if (pwrite(file, block, bytes, i * (long)bytes) < 0 || fdatasync(file) < 0)
            die("fdatasync");
    free(block);
    printf("{\"ms\":%.4f}\n", (seconds(CLOCK_MONOTONIC) - wall) * 1e3 / (double)n);
}

// An OffsetCommit of one partition by a member with an id as brokers give them, and its answer; and
// what a log takes for it.
#define REQUEST_BYTES 160
#define ANSWER_BYTES 48
#define STORED_BYTES 192
#define EVENTS_MAX 512

static long n_exchanges;

static int watch(int epoll, int s)
{
    struct epoll_event e = {.events = EPOLLIN, .data.fd = s};
    return s < 0 ? -1 : epoll_ctl(epoll, EPOLL_CTL_ADD, s, &e);
}

// All clients in one thread.
static void *ask(void *arg)
{
    char request[REQUEST_BYTES] = {0}, answer[ANSWER_BYTES];
    struct epoll_event events[EVENTS_MAX];
    int epoll = epoll_create1(0);
    long begun = 0, done = 0;
    for (size_t i = 0; i < frame_bytes; i++) {
        int s = dial();
        if (watch(epoll, s) < 0 || send(s, request, sizeof request, 0) != sizeof request)
            die("ask");
        begun++;
    }
    while (done < n_exchanges) {
        int n = epoll_wait(epoll, events, EVENTS_MAX, -1);
        for (int i = 0; i < n; i++) {
            int s = events[i].data.fd;
            if (recv(s, answer, sizeof answer, 0) != sizeof answer)
                die("recv");
            done++;
            if (begun < n_exchanges) {
                begun++;
                if (send(s, request, sizeof request, 0) != sizeof request)
                    die("send");
            }
        }
    }
    return arg;
}

static void exchange(int listener, int file)
{
    static char request[REQUEST_BYTES], answer[ANSWER_BYTES], stored[STORED_BYTES * EVENTS_MAX];
    struct epoll_event events[EVENTS_MAX];
    int epoll = epoll_create1(0);
    pthread_t t;
    pthread_create(&t, NULL, ask, NULL);
    for (size_t i = 0; i < frame_bytes; i++)
        if (watch(epoll, accept(listener, NULL, NULL)) < 0)
            die("accept");
    double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_THREAD_CPUTIME_ID);
    off_t at = 0;
    for (long done = 0; done < n_exchanges;) {
        int n = epoll_wait(epoll, events, EVENTS_MAX, -1);
        for (int i = 0; i < n; i++)
            if (recv(events[i].data.fd, request, sizeof request, 0) != sizeof request)
                die("recv");
        if (pwrite(file, stored, STORED_BYTES * (size_t)n, at) < 0 || fdatasync(file) < 0)
            die("fdatasync");
        at += STORED_BYTES * n;
        for (int i = 0; i < n; i++)
            if (send(events[i].data.fd, answer, sizeof answer, 0) != sizeof answer)
                die("send");
        done += n;
    }
    wall = seconds(CLOCK_MONOTONIC) - wall;
    cpu = seconds(CLOCK_THREAD_CPUTIME_ID) - cpu;
    pthread_join(t, NULL);
    printf("{\"cpu_s_per_million\":%.4f,\"per_second\":%.1f}\n", cpu / (double)n_exchanges * 1e6,
           (double)n_exchanges / wall);
}

static int answers(void)
{
    // ApiVersions, version 0, no client id.
    static const unsigned char ask[] = {0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff};
    char answer[4096];
    int s = dial();
    if (s < 0)
        return 0;
    ssize_t n = send(s, ask, sizeof ask, MSG_NOSIGNAL);
    n = n > 0 ? recv(s, answer, sizeof answer, 0) : n;
    close(s);
    return n > 0;
}

// The child ends when standard input does.
static void start(char **command)
{
    pid_t child;
    double from = seconds(CLOCK_MONOTONIC);
    if (posix_spawnp(&child, command[0], NULL, NULL, command, environ) != 0)
        die(command[0]);
    struct timespec pause = {.tv_nsec = 100000};
    while (!answers()) {
        if (waitpid(child, NULL, WNOHANG) == child || seconds(CLOCK_MONOTONIC) - from > 300) {
            fprintf(stderr, "limit: %s does not answer\n", command[0]);
            exit(2);
        }
        nanosleep(&pause, NULL);
    }
    printf("{\"ms\":%.3f,\"pid\":%d}\n", (seconds(CLOCK_MONOTONIC) - from) * 1e3, (int)child);
    fflush(stdout);
    char c;
    while (read(STDIN_FILENO, &c, 1) > 0)
        ;
    kill(child, SIGTERM);
    waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
    if (argc >= 4 && strcmp(argv[1], "start") == 0) {
        port = (uint16_t)atoi(argv[2]);
        start(argv + 3);
        return 0;
    }
    if (argc != 5) {
        fputs("usage: see bench/limit.c\n", stderr);
        return 2;
    }
    int file = open(argv[4], O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0)
        die(argv[4]);
    frame_bytes = (size_t)atol(argv[2]);
    total_bytes = atoll(argv[3]) << 20;
    if (strcmp(argv[1], "sync") == 0)
        sync_often(frame_bytes, atol(argv[3]), file);
    else if (strcmp(argv[1], "exchange") == 0)
        n_exchanges = atol(argv[3]), exchange(listen_anywhere(), file);
    else if (strcmp(argv[1], "serve") == 0)
        serve(listen_anywhere(), file);
    else
        ingest(listen_anywhere(), file);
    unlink(argv[4]);
    return 0;
}
