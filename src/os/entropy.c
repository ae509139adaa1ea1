#include "os/entropy.h"

struct uuid entropy_uuid(struct entropy *e)
{
    struct uuid u;
    do {
        entropy_fill(e, u.b, sizeof u.b);
        u.b[6] = (uint8_t)((u.b[6] & 0x0f) | 0x40);
        u.b[8] = (uint8_t)((u.b[8] & 0x3f) | 0x80);
    } while (u.b[0] >> 2 == 62); // 62 is '-' in URL-safe base64
    return u;
}
