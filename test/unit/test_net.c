// The real net over loopback: frames, muting, splices, ends; each case with the loop alone and with
// network threads.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/clock.h"
#include "os/disk.h"
#include "os/mailbox.h"
#include "os/net.h"

#include <pthread.h>

#define PASSES_MAX 2000

static unsigned threads; // net_limits.threads

struct world {
    struct clock *clock;
    struct net *net;
    uint16_t port;
    int listener;
    int client;
    uint64_t conn; // the last opened
    unsigned opened, closed, eofs, frames, paused;
    char last[64];
    size_t last_len;
    struct net_end end;
    bool refuse;
    unsigned most; // frames taken together; 0 is one
    unsigned n_open;
    const uint8_t *open[NET_OPEN_MAX]; // where their bytes lie
};

static bool on_open(void *user, uint64_t conn, const struct net_peer *peer)
{
    struct world *w = user;
    if (w->refuse)
        return false;
    assert_true(conn > w->conn);
    assert_string_equal(peer->host, "127.0.0.1");
    assert_int_equal(peer->listener, w->listener);
    assert_int_equal(peer->local_port, w->port);
    w->conn = conn;
    w->opened++;
    return true;
}

static enum net_taken on_frame(void *user, uint64_t conn, struct bytes frame)
{
    struct world *w = user;
    assert_int_equal(conn, w->conn);
    if (w->n_open > 0 && w->n_open >= w->most)
        return NET_NOT_YET;
    w->open[w->n_open++] = frame.ptr;
    w->frames++;
    w->last_len = frame.len;
    memcpy(w->last, frame.ptr, frame.len < sizeof w->last ? frame.len : sizeof w->last);
    return w->most > 0 ? NET_TAKEN_MORE : NET_TAKEN;
}

static void on_eof(void *user, uint64_t conn)
{
    struct world *w = user;
    assert_int_equal(conn, w->conn);
    w->eofs++;
}

static void on_close(void *user, uint64_t conn, const struct net_end *end)
{
    (void)conn;
    struct world *w = user;
    w->n_open = 0;
    w->closed++;
    w->end = *end;
}

static void on_accept_paused(void *user, int error)
{
    struct world *w = user;
    assert_int_equal(error, -EUSERS);
    w->paused++;
}

static int dial(const struct world *w)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(w->port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

// Passes of the loop, each of which waits so long at most, until it is so.
#define UNTIL_IN(w, condition, wait_ms, passes_max)                                                \
    do {                                                                                           \
        int passes_ = 0;                                                                           \
        while (!(condition)) {                                                                     \
            net_run_once((w)->net, wait_ms);                                                       \
            if (++passes_ > (passes_max))                                                          \
                fail_msg("never: %s", #condition);                                                 \
        }                                                                                          \
    } while (0)
#define UNTIL(w, condition) UNTIL_IN(w, condition, 10, PASSES_MAX)
#define UNTIL_BUSY(w, condition) UNTIL_IN(w, condition, 0, 1000 * PASSES_MAX)

static void quiet(struct world *w)
{
    while (net_run_once(w->net, 0) > 0)
        ;
}

static struct world *world_new(struct net_limits limits)
{
    struct world *w = calloc(1, sizeof *w);
    w->clock = clock_new();
    limits.threads = threads;
    w->net = net_new(&limits, w->clock);
    struct net_handler h = {w, on_open, on_frame, on_eof, on_close, on_accept_paused};
    net_set_handler(w->net, &h);
    assert_int_equal(net_listen(w->net, "127.0.0.1", 0, &w->listener, &w->port), 0);
    w->client = dial(w);
    return w;
}

static const struct net_limits usual = {
    .max_frame_bytes = 1000, .max_connections = 10, .max_input_bytes = 1 << 20};

static void world_free(struct world *w)
{
    if (w->client >= 0)
        close(w->client);
    net_free(w->net);
    clock_free(w->clock);
    free(w);
}

static void put(int fd, const char *data, size_t len)
{
    assert_int_equal(write(fd, data, len), len);
}

static void get(struct world *w, char *data, size_t len)
{
    size_t got = 0;
    for (int passes = 0; got < len; passes++) {
        assert_true(passes < 1000 * PASSES_MAX);
        // With threads answers leave with the next pass, else at once.
        ssize_t n = recv(w->client, data + got, len - got, threads > 1 ? MSG_DONTWAIT : 0);
        assert_true(n > 0 || (n < 0 && errno == EAGAIN));
        got += n > 0 ? (size_t)n : 0;
        if (n < 0)
            net_run_once(w->net, 10);
    }
}

static void take_open(struct world *w)
{
    assert_true(w->n_open-- > 0);
    memmove(w->open, w->open + 1, w->n_open * sizeof w->open[0]);
}

static void no_answer(struct world *w)
{
    take_open(w);
    net_skip(w->net, w->conn);
}

static void answer(struct world *w, const char *text)
{
    struct kw_out out = {0};
    take_open(w);
    buf_add(&out.buf, text, strlen(text));
    assert_true(net_send(w->net, w->conn, &out) > 0);
    kw_out_free(&out);
}

static void test_one_frame_at_a_time(void **state)
{
    (void)state;
    struct world *w = world_new(usual);
    put(w->client, "\0\0\0\2ab\0\0\0\1c\0\0\0\0\0\0", 17);
    UNTIL(w, w->frames == 1);
    quiet(w);
    assert_int_equal(w->frames, 1);
    assert_memory_equal(w->last, "ab", 2);
    answer(w, "one");
    UNTIL(w, w->frames == 2);
    assert_memory_equal(w->last, "c", 1);
    no_answer(w);
    UNTIL(w, w->frames == 3); // empty: the broker says what it thinks of that
    assert_int_equal(w->last_len, 0);
    no_answer(w);
    quiet(w);
    put(w->client, "\0\1x", 3); // the rest of length 1
    UNTIL(w, w->frames == 4);
    char got[3];
    get(w, got, 3);
    assert_memory_equal(got, "one", 3);
    world_free(w);
}

static void answer_soon(struct world *w, const char *text)
{
    struct kw_out out = {0};
    take_open(w);
    buf_add(&out.buf, text, strlen(text));
    assert_true(net_send_soon(w->net, w->conn, &out) > 0);
    kw_out_free(&out);
}

// An answer that may wait leaves with the next one's, or before the next pass waits for anything,
// or when the connection is closed.
static void test_answers_that_wait(void **state)
{
    (void)state;
    struct world *w = world_new(usual);
    char got[3];
    put(w->client, "\0\0\0\1a\0\0\0\1b\0\0\0\1c\0\0\0\1d\0\0\0\1e", 25);
    w->most = 3;
    UNTIL(w, w->frames == 3);
    answer_soon(w, "1");
    assert_int_equal(recv(w->client, got, 1, MSG_DONTWAIT), -1);
    assert_true(net_is_sending(w->net, w->conn));
    answer(w, "2");
    get(w, got, 2);
    assert_memory_equal(got, "12", 2);
    answer_soon(w, "3");
    assert_int_equal(recv(w->client, got, 1, MSG_DONTWAIT), -1);
    net_run_once(w->net, 0);
    get(w, got, 1);
    assert_int_equal(got[0], '3');
    UNTIL(w, w->frames == 5);
    answer_soon(w, "4");
    assert_true(net_is_sending(w->net, w->conn));
    net_close(w->net, w->conn);
    UNTIL(w, w->closed == 1);
    get(w, got, 1);
    assert_int_equal(got[0], '4');
    assert_int_equal(w->end.sent_bytes, 4);
    world_free(w);
}

// What is there is given out at once, as much as is taken, and stays where it is until it is
// answered; what comes later waits until all of it is.
static void test_frames_together(void **state)
{
    (void)state;
    struct world *w = world_new(usual);
    w->most = 2;
    put(w->client, "\0\0\0\1a\0\0\0\1b\0\0\0\1c\0\0\0\2d", 20);
    UNTIL(w, w->frames == 2);
    quiet(w);
    assert_int_equal(w->frames, 2);
    assert_int_equal(w->open[0][0], 'a');
    answer_soon(w, "A");
    UNTIL(w, w->frames == 3); // the third joins the second
    assert_int_equal(w->open[0][0], 'b');
    assert_int_equal(w->open[1][0], 'c');
    put(w->client, "D", 1);
    quiet(w);
    answer_soon(w, "B");
    no_answer(w);
    UNTIL(w, w->frames == 4);
    assert_memory_equal(w->last, "dD", 2);
    answer_soon(w, "C");
    char got[3];
    get(w, got, 3);
    assert_memory_equal(got, "ABC", 3);
    world_free(w);
}

// However many come, so many are open; the rest waits, and none is lost.
static void test_frames_together_are_bounded(void **state)
{
    (void)state;
    struct world *w = world_new(usual);
    w->most = NET_OPEN_MAX;
    unsigned n = 5 * NET_OPEN_MAX + 3, answered = 0;
    for (unsigned i = 0; i < n; i++) {
        char frame[6] = {0, 0, 0, 2, (char)(i >> 6), (char)(i & 63)};
        put(w->client, frame, sizeof frame);
    }
    while (answered < n) {
        UNTIL(w, w->n_open > 0);
        assert_true(w->n_open <= NET_OPEN_MAX);
        assert_int_equal(w->open[0][0] << 6 | w->open[0][1], answered);
        no_answer(w);
        answered++;
    }
    assert_int_equal(w->frames, n);
    world_free(w);
}

// A frame that is too long ends the connection, after those before it were answered.
static void test_a_bad_frame_behind_good_ones(void **state)
{
    (void)state;
    struct world *w = world_new(usual);
    w->most = 4;
    put(w->client, "\0\0\0\1a\0\0\0\1b\xff\xff\xff\xff", 14);
    UNTIL(w, w->frames == 2);
    quiet(w);
    answer_soon(w, "1");
    quiet(w);
    assert_int_equal(w->closed, 0);
    answer_soon(w, "2");
    UNTIL(w, w->closed == 1);
    assert_int_equal(w->end.reason, NET_CLOSED_BAD_FRAME);
    char got[2];
    get(w, got, 2);
    assert_memory_equal(got, "12", 2);
    world_free(w);
}

// Frames of all sizes, cut at all places, come out as they went in.
static void test_frames_of_all_sizes(void **state)
{
    (void)state;
    struct net_limits large = usual;
    large.max_frame_bytes = 2 << 20;
    large.max_input_bytes = 8 << 20;
    struct world *w = world_new(large);
    static const uint32_t sizes[] = {3,      70000, 0, 300000, 5, 4096,   140000, 140000, 131068,
                                     131069, 4092,  1, 600000, 2, 262140, 262141, 500000, 1048576};
    size_t n = sizeof sizes / sizeof sizes[0], total = 0, sent = 0, seen = 0;
    for (size_t i = 0; i < n; i++)
        total += sizes[i] + 4;
    uint8_t *all = malloc(total), *at = all;
    for (size_t i = 0; i < n; i++) {
        for (uint32_t b = 0; b < 4; b++)
            *at++ = (uint8_t)(sizes[i] >> (24 - 8 * b));
        memset(at, (int)('A' + i), sizes[i]);
        at += sizes[i];
    }
    uint32_t dice = 7;
    while (seen < n) {
        dice = dice * 1103515245 + 12345;
        size_t most = (dice >> 16) % 3 ? (dice >> 8) % 200000 : (dice >> 8) % 50;
        most = most < total - sent ? most : total - sent;
        ssize_t put_now = most ? send(w->client, all + sent, most, MSG_DONTWAIT) : 0;
        sent += put_now > 0 ? (size_t)put_now : 0;
        net_run_once(w->net, 0);
        if ((size_t)w->frames == seen)
            continue;
        assert_int_equal(w->last_len, sizes[seen]);
        for (size_t i = 0; i < w->last_len && i < sizeof w->last; i++)
            assert_int_equal(w->last[i], 'A' + seen);
        seen++;
        no_answer(w);
    }
    free(all);
    world_free(w);
}

static void test_bad_length_closes(void **state)
{
    (void)state;
    struct world *w = world_new(usual);
    put(w->client, "\0\0\3\xe9", 4);
    UNTIL(w, w->closed == 1);
    assert_int_equal(w->end.reason, NET_CLOSED_BAD_FRAME);
    assert_int_equal(w->end.frame_len, 1001);
    close(w->client);
    w->client = dial(w);
    put(w->client, "\xff\xff\xff\xff", 4);
    UNTIL(w, w->closed == 2);
    assert_int_equal(w->end.frame_len, -1);
    assert_int_equal(w->frames, 0);
    world_free(w);
}

static void test_input_of_all_is_bounded(void **state)
{
    (void)state;
    struct net_limits small = usual;
    small.max_frame_bytes = 1 << 20;
    small.max_input_bytes = 64 << 10;
    struct world *w = world_new(small);
    char *much = calloc(1, 100 << 10);
    much[1] = 0xf;
    ssize_t n = write(w->client, much, 100 << 10);
    assert_true(n > 0);
    UNTIL(w, w->closed == 1);
    assert_int_equal(w->end.reason, NET_CLOSED_FULL);
    free(much);
    world_free(w);
}

// A file of these ten bytes, and an answer of which the second slice ends at `end`.
struct sliced {
    struct disk *disk;
    struct disk_file *file;
    struct kw_out out;
};

static struct sliced sliced_new(uint32_t end)
{
    struct sliced s = {
        .out = {.splices = calloc(2, sizeof *s.out.splices), .n_splices = 2, .cap_splices = 2}};
    char path[] = "/tmp/test_net_XXXXXX";
    close(mkstemp(path));
    assert_int_equal(disk_new(&s.disk), 0);
    assert_int_equal(disk_open(s.disk, path, DISK_WRITE | DISK_CREATE, &s.file), 0);
    unlink(path);
    assert_int_equal(disk_pwrite(s.file, "0123456789", 10, 0), 0);
    buf_add(&s.out.buf, "<>!", 3);
    s.out.splices[0] = (struct kw_splice){.at = 1, .file = s.file, .file_pos = 2, .len = 3};
    s.out.splices[1] = (struct kw_splice){.at = 2, .file = s.file, .file_pos = 9, .len = end - 9};
    return s;
}

static void test_splices_come_out_in_place(void **state)
{
    (void)state;
    struct world *w = world_new(usual);
    struct sliced s = sliced_new(10);
    put(w->client, "\0\0\0\1a", 5);
    UNTIL(w, w->frames == 1);
    take_open(w);
    assert_int_equal(net_send(w->net, w->conn, &s.out), 7);
    disk_close(s.file); // the net has its own reference
    char got[7];
    get(w, got, 7);
    assert_memory_equal(got, "<234>9!", 7);
    UNTIL(w, !net_is_sending(w->net, w->conn));
    shutdown(w->client, SHUT_WR);
    UNTIL(w, w->closed == 1);
    assert_int_equal(w->end.reason, NET_CLOSED_BY_PEER);
    assert_int_equal(w->end.sent_bytes, 7);
    assert_int_equal(w->end.acked_bytes, 7);
    world_free(w);
    disk_free(s.disk);
}

static void test_a_file_that_ends_too_early_is_named_as_the_reason(void **state)
{
    (void)state;
    struct world *w = world_new(usual);
    struct sliced s = sliced_new(12);
    put(w->client, "\0\0\0\1a", 5);
    UNTIL(w, w->frames == 1);
    take_open(w);
    assert_int_equal(net_send(w->net, w->conn, &s.out), 9);
    disk_close(s.file);
    UNTIL(w, w->closed == 1);
    assert_int_equal(w->end.reason, NET_CLOSED_FILE);
    assert_int_equal(w->end.sent_bytes, 6); // and not what stands behind the slice
    world_free(w);
    disk_free(s.disk);
}

static void test_eof_is_told_and_the_answer_still_sent(void **state)
{
    (void)state;
    struct world *w = world_new(usual);
    put(w->client, "\0\0\0\1a", 5);
    UNTIL(w, w->frames == 1);
    shutdown(w->client, SHUT_WR);
    UNTIL(w, w->eofs == 1);
    quiet(w);
    assert_int_equal(w->eofs, 1);
    assert_int_equal(w->closed, 0);
    answer(w, "late");
    char got[4];
    get(w, got, 4);
    assert_memory_equal(got, "late", 4);
    UNTIL(w, w->closed == 1);
    world_free(w);
}

// The end may come with the frame, and holds for each frame that came before it.
static void test_eof_together_with_frames(void **state)
{
    (void)state;
    struct world *w = world_new(usual);
    put(w->client, "\0\0\0\1a\0\0\0\1b", 10);
    shutdown(w->client, SHUT_WR);
    UNTIL(w, w->frames == 1);
    UNTIL(w, w->eofs == 1);
    answer(w, "one");
    UNTIL(w, w->frames == 2);
    UNTIL(w, w->eofs == 2);
    answer(w, "two");
    char got[6];
    get(w, got, 6);
    assert_memory_equal(got, "onetwo", 6);
    UNTIL(w, w->closed == 1);
    world_free(w);
}

// A reader that reads nothing holds one answer and no more; nothing else is held up.
static void test_slow_reader(void **state)
{
    (void)state;
    struct world *w = world_new(usual);
    put(w->client, "\0\0\0\1a\0\0\0\1b", 10);
    UNTIL(w, w->frames == 1);
    size_t size = 32 << 20;
    struct kw_out out = {0};
    memset(buf_extend(&out.buf, size), 'z', size);
    take_open(w);
    net_send(w->net, w->conn, &out);
    quiet(w);
    assert_true(net_is_sending(w->net, w->conn));
    assert_int_equal(w->frames, 1);
    char *got = malloc(size);
    for (size_t all = 0; all < size;) {
        ssize_t n = recv(w->client, got, size, MSG_DONTWAIT);
        if (n > 0)
            all += (size_t)n;
        net_run_once(w->net, 0);
    }
    UNTIL(w, w->frames == 2);
    free(got);
    world_free(w);
}

static void test_what_was_not_sent_is_not_counted(void **state)
{
    (void)state;
    struct world *w = world_new(usual);
    put(w->client, "\0\0\0\1a", 5);
    UNTIL(w, w->frames == 1);
    size_t size = 32 << 20;
    struct kw_out out = {0};
    memset(buf_extend(&out.buf, size), 'z', size);
    take_open(w);
    assert_int_equal(net_send(w->net, w->conn, &out), size);
    quiet(w);
    close(w->client);
    w->client = -1;
    UNTIL(w, w->closed == 1);
    assert_true(w->end.sent_bytes < size);
    assert_true(w->end.acked_bytes <= w->end.sent_bytes);
    world_free(w);
}

static void answer_big(struct world *w, uint64_t (*send)(struct net *, uint64_t, struct kw_out *))
{
    size_t size = 32 << 20; // more than the socket takes
    struct kw_out out = {0};
    memset(buf_extend(&out.buf, size), 'z', size);
    take_open(w);
    send(w->net, w->conn, &out);
}

// What waits for the answers behind it counts as well.
static void test_output_of_all_is_bounded(void **state)
{
    (void)state;
    struct net_limits limits = usual;
    limits.max_output_bytes = 1 << 20;
    struct world *w = world_new(limits);
    w->most = 2;
    put(w->client, "\0\0\0\1a\0\0\0\1b", 10);
    UNTIL(w, w->frames == 2);
    answer_big(w, net_send_soon);
    UNTIL(w, w->closed == 1);
    assert_int_equal(w->end.reason, NET_CLOSED_UNREAD);
    world_free(w);
}

// A long request is done with when it is answered, also while nobody reads the answer: another one
// has room.
static void test_an_answer_that_waits_holds_no_input(void **state)
{
    (void)state;
    struct net_limits limits = usual;
    limits.max_frame_bytes = 600000;
    struct world *w = world_new(limits);
    int first = w->client;
    char *much = calloc(1, 600004);
    memcpy(much, "\0\x09\x27\xc0", 4);
    for (unsigned i = 1; i <= 2; i++) {
        UNTIL(w, w->opened == i);
        for (size_t sent = 0; sent < 600004;) {
            ssize_t more = send(w->client, much + sent, 600004 - sent, MSG_DONTWAIT);
            sent += more > 0 ? (size_t)more : 0;
            net_run_once(w->net, 1);
            assert_int_equal(w->closed, 0);
        }
        UNTIL(w, w->frames == i);
        answer_big(w, net_send);
        quiet(w); // a thread has written what it could
        w->client = i == 1 ? dial(w) : w->client;
    }
    free(much);
    close(first);
    world_free(w);
}

// It is to be closed, a frame of it gets no answer any more, and nobody reads.
static void test_closing_does_not_wait_for_ever(void **state)
{
    (void)state;
    struct net_limits limits = usual;
    limits.idle_ms = 1;
    struct world *w = world_new(limits);
    w->most = 2;
    put(w->client, "\0\0\0\1a\0\0\0\1b", 10);
    UNTIL(w, w->frames == 2);
    answer_big(w, net_send);
    net_close_after_send(w->net, w->conn);
    UNTIL(w, w->closed == 1);
    assert_int_equal(w->end.reason, NET_CLOSED_IDLE);
    world_free(w);
}

// A pass that returns 0 has missed nothing: timers may fire after it.
static void test_nothing_is_there_when_a_pass_says_so(void **state)
{
    (void)state;
    struct world *w = world_new(usual);
    for (unsigned i = 1; i <= 500; i++) {
        put(w->client, "\0\0\0\1a", 5);
        quiet(w);
        assert_int_equal(w->frames, i);
        no_answer(w);
    }
    world_free(w);
}

// Nor has a round, of passes none of which returns 0.
static void test_a_round_misses_nothing(void **state)
{
    (void)state;
    struct world *w = world_new(usual);
    UNTIL(w, w->opened == 1);
    for (unsigned i = 1; i <= 500; i++) {
        UNTIL(w, net_went_round(w->net));
        put(w->client, "\0\0\0\1a", 5);
        do
            net_run_once(w->net, 0);
        while (!net_went_round(w->net));
        assert_int_equal(w->frames, i);
        no_answer(w);
    }
    world_free(w);
}

static void nothing(void *arg, uint32_t events)
{
    (void)arg, (void)events;
}

// The second of two answers is being written while the loop hears that the first one was: the frame
// behind them comes, whichever is earlier.
static void test_no_frame_is_forgotten_behind_answers(void **state)
{
    (void)state;
    struct world *w = world_new(usual);
    w->most = 2;
    int always = eventfd(1, EFD_CLOEXEC); // no pass waits for threads
    assert_int_equal(net_watch(w->net, always, EPOLLIN, nothing, NULL), 0);
    char got[3];
    for (unsigned round = 0; round < 3000; round++) {
        put(w->client, "\0\0\0\1a\0\0\0\1b\0\0\0\1c", 15);
        UNTIL_BUSY(w, w->n_open == 2);
        answer(w, "1");
        net_run_once(w->net, 0);
        for (unsigned spin = round % 100 * 50; spin > 0; spin--)
            __asm__ volatile("");
        answer(w, "2");
        UNTIL_BUSY(w, w->n_open == 1);
        answer(w, "3");
        get(w, got, 3);
        assert_memory_equal(got, "123", 3);
    }
    world_free(w);
    close(always);
}

static void test_connections_are_bounded(void **state)
{
    (void)state;
    struct net_limits two = usual;
    two.max_connections = 2;
    struct world *w = world_new(two);
    int second = dial(w), third = dial(w);
    UNTIL(w, w->paused == 1);
    assert_int_equal(w->opened, 2);
    close(second);
    UNTIL(w, w->opened == 3);
    close(third);
    world_free(w);
}

static void test_refused_and_unlistened(void **state)
{
    (void)state;
    struct world *w = world_new(usual);
    UNTIL(w, w->opened == 1);
    w->refuse = true;
    int second = dial(w);
    quiet(w);
    char byte;
    assert_int_equal(read(second, &byte, 1), 0);
    assert_int_equal(w->closed, 0);
    close(second);
    net_unlisten(w->net, w->listener);
    put(w->client, "\0\0\0\1a", 5);
    UNTIL(w, w->frames == 1);
    net_close(w->net, w->conn);
    assert_int_equal(w->closed, 0); // never from inside a call
    UNTIL(w, w->closed == 1);
    assert_int_equal(w->end.reason, NET_CLOSED_BY_US);
    world_free(w);
}

// ---- Mailbox

struct letter {
    struct mail mail;
    struct mailbox *to;
    int *arrived;
    int number;
};

static void arrive(struct mail *m)
{
    struct letter *l = (struct letter *)(void *)m;
    assert_int_equal(*l->arrived, l->number);
    ++*l->arrived;
}

static void *post_all(void *arg)
{
    struct letter *l = arg;
    for (int i = 0; i < 100; i++)
        mailbox_post(l[i].to, &l[i].mail);
    return NULL;
}

static void test_mail_comes_in_order(void **state)
{
    (void)state;
    struct world *w = world_new(usual);
    struct mailbox *mb = mailbox_new(w->net);
    struct letter letters[100];
    int arrived = 0;
    for (int i = 0; i < 100; i++)
        letters[i] = (struct letter){{.run = arrive}, mb, &arrived, i};
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, post_all, letters), 0);
    UNTIL(w, arrived == 100);
    pthread_join(t, NULL);
    mailbox_free(mb);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_frame_at_a_time),
        cmocka_unit_test(test_answers_that_wait),
        cmocka_unit_test(test_frames_together),
        cmocka_unit_test(test_frames_together_are_bounded),
        cmocka_unit_test(test_a_bad_frame_behind_good_ones),
        cmocka_unit_test(test_frames_of_all_sizes),
        cmocka_unit_test(test_bad_length_closes),
        cmocka_unit_test(test_input_of_all_is_bounded),
        cmocka_unit_test(test_splices_come_out_in_place),
        cmocka_unit_test(test_a_file_that_ends_too_early_is_named_as_the_reason),
        cmocka_unit_test(test_eof_is_told_and_the_answer_still_sent),
        cmocka_unit_test(test_eof_together_with_frames),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_what_was_not_sent_is_not_counted),
        cmocka_unit_test(test_output_of_all_is_bounded),
        cmocka_unit_test(test_an_answer_that_waits_holds_no_input),
        cmocka_unit_test(test_closing_does_not_wait_for_ever),
        cmocka_unit_test(test_nothing_is_there_when_a_pass_says_so),
        cmocka_unit_test(test_a_round_misses_nothing),
        cmocka_unit_test(test_no_frame_is_forgotten_behind_answers),
        cmocka_unit_test(test_connections_are_bounded),
        cmocka_unit_test(test_refused_and_unlistened),
        cmocka_unit_test(test_mail_comes_in_order),
    };
    int failed = 0;
    static const unsigned forms[] = {1, 3};
    for (size_t i = 0; i < 2; i++) {
        threads = forms[i];
        failed += cmocka_run_group_tests_name(i ? "3 threads" : "1 thread", tests, NULL, NULL);
    }
    return failed;
}
