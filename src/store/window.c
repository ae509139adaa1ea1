#include "store/window.h"

// One read; large enough that a cold disk streams.
#define WINDOW_BYTES (256u << 10)

int window_open(struct window *w, struct disk_file *file)
{
    *w = (struct window){.file = file};
    return disk_size(file, &w->size);
}

void window_close(struct window *w)
{
    buf_free(&w->buf);
}

int window_at(struct window *w, uint64_t pos, size_t len, const uint8_t **ret_data)
{
    if (pos > w->size || len > w->size - pos) {
        *ret_data = NULL;
        return 0;
    }
    if (pos < w->base || pos + len > w->base + w->buf.len) {
        size_t want = len > WINDOW_BYTES ? len : WINDOW_BYTES;
        if (want > w->size - pos)
            want = (size_t)(w->size - pos);
        buf_clear(&w->buf);
        uint8_t *to = buf_extend(&w->buf, want);
        w->base = pos;
        int r = disk_pread_all(w->file, to, want, pos);
        if (r < 0) {
            buf_clear(&w->buf);
            return r;
        }
    }
    *ret_data = w->buf.ptr + (pos - w->base);
    return 0;
}
