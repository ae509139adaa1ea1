#include "os/input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void input_pool_trim(struct input_pool *p)
{
    while (p->n_spares > 0)
        free(p->spares[--p->n_spares].buf);
}

static void remove_spare(struct input_pool *p, size_t i)
{
    p->n_spares--;
    memmove(&p->spares[i], &p->spares[i + 1], (p->n_spares - i) * sizeof p->spares[0]);
}

// When there are enough, the longer ones are kept.
static void give_back(struct input_pool *p, const struct input *in)
{
    size_t least = 0;
    for (size_t i = 1; i < p->n_spares; i++)
        if (p->spares[i].cap < p->spares[least].cap)
            least = i;
    if (p->n_spares == INPUT_SPARES_MAX) {
        if (p->spares[least].cap >= in->cap) {
            free(in->buf);
            return;
        }
        free(p->spares[least].buf);
        remove_spare(p, least);
    }
    p->spares[p->n_spares++] = (struct input){.buf = in->buf, .cap = in->cap};
}

void input_write_off(struct input_pool *p, struct input *in)
{
    if (!in->is_written_off)
        budget_give(p->budget, in->cap);
    in->is_written_off = true;
}

void input_free(struct input_pool *p, struct input *in)
{
    input_write_off(p, in);
    if (!p->keeps_none && in->cap >= INPUT_BULK_BYTES && in->cap <= INPUT_SPARE_MAX_BYTES)
        give_back(p, in);
    else
        free(in->buf);
    *in = (struct input){0};
}

static size_t size_at(const struct input *in, size_t at)
{
    const uint8_t *b = in->buf + at;
    uint32_t len = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    return (size_t)len + 4;
}

size_t input_frame_size(const struct input *in)
{
    return in->len - in->next < 4 ? 0 : size_at(in, in->next);
}

bool input_has_frame(const struct input *in)
{
    size_t size = input_frame_size(in);
    return size > 0 && in->len - in->next >= size;
}

struct bytes input_give(struct input *in)
{
    struct bytes frame = {in->buf + in->next + 4, input_frame_size(in) - 4};
    in->next += frame.len + 4;
    return frame;
}

void input_take_back(struct input *in, struct bytes frame)
{
    in->next -= frame.len + 4;
    CHECK(in->buf + in->next + 4 == frame.ptr);
}

// The first that is long enough, from the last one given back: that is what the caches hold.
static bool take_spare(struct input_pool *p, size_t more_than, size_t wanted, struct input *ret)
{
    size_t found = p->n_spares;
    for (size_t i = p->n_spares; i-- > 0;)
        if (p->spares[i].cap > more_than && p->spares[i].cap <= budget_left(p->budget) &&
            (found == p->n_spares || p->spares[found].cap < wanted))
            found = i;
    if (found == p->n_spares || !budget_take(p->budget, p->spares[found].cap, 0))
        return false;
    *ret = (struct input){.buf = p->spares[found].buf, .cap = p->spares[found].cap};
    remove_spare(p, found);
    return true;
}

// Moves what is there into a buffer of another size, or a spare one.
static int move(struct input_pool *p, struct input *in, size_t cap, size_t wanted)
{
    struct input to = {0};
    size_t len = in->len - in->at;
    bool is_spare = cap > INPUT_SMALL_BYTES && take_spare(p, in->cap, wanted, &to);
    if (!is_spare && !budget_take(p->budget, cap, in->cap))
        return -ENOBUFS;
    if (!is_spare)
        to = (struct input){.buf = malloc(cap), .cap = cap};
    CHECK(to.buf);
    if (len > 0)
        memcpy(to.buf, in->buf + in->at, len);
    to.len = len;
    input_free(p, in);
    *in = to;
    return 0;
}

int input_room(struct input_pool *p, struct input *in)
{
    CHECK(in->next == in->at);
    size_t size = input_frame_size(in), len = in->len - in->at;
    if (in->cap == 0) {
        uint64_t left = budget_left(p->budget);
        size_t cap = left < INPUT_BULK_BYTES ? (size_t)left : INPUT_BULK_BYTES;
        return cap >= INPUT_SMALL_BYTES ? move(p, in, cap, 0) : -ENOBUFS;
    }
    bool fits = size <= in->cap && in->cap > INPUT_SMALL_BYTES;
    if (in->at > 0 && (in->len == in->cap || in->cap - in->at < size) && len < in->cap) {
        memmove(in->buf, in->buf + in->at, len);
        in->at = in->next = 0;
        in->len = len;
    }
    if (in->len < in->cap && (fits || size == 0))
        return 0;
    size_t cap = in->cap < INPUT_BULK_BYTES ? INPUT_BULK_BYTES : in->cap * 2;
    if (size > in->cap && cap > size && size > INPUT_BULK_BYTES)
        cap = size;
    int r = move(p, in, cap, size);
    return r < 0 && in->len < in->cap ? 0 : r;
}

void input_settle(struct input_pool *p, struct input *in)
{
    if (in->next != in->at)
        return;
    size_t len = in->len - in->at;
    if (len == 0)
        input_free(p, in);
    else if (len <= INPUT_TINY_BYTES && in->cap > INPUT_TINY_BYTES && input_has_frame(in))
        (void)!move(p, in, INPUT_TINY_BYTES, 0); // it only becomes less
    else if (len <= INPUT_SMALL_BYTES && in->cap > INPUT_SMALL_BYTES && !input_has_frame(in))
        (void)!move(p, in, INPUT_SMALL_BYTES, 0); // it only becomes less
}

void input_take(struct input *in)
{
    CHECK(in->at < in->next);
    in->at += size_at(in, in->at);
}
