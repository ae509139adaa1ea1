#include "core/effects.h"

void effects_init(struct effects *fx, struct arena *a)
{
    *fx = (struct effects){.arena = a};
    fx->last_record = &fx->first_record;
    fx->last_reply = &fx->first_reply;
}

void *effects_response(struct effects *fx, const struct kw_message *type)
{
    void *response = arena_alloc(fx->arena, kw_size_in_memory(type));
    kw_init(type, response);
    return response;
}

void *effects_record(struct effects *fx, const struct kw_message *type)
{
    struct effect_record *e = arena_alloc(fx->arena, sizeof *e);
    e->type = type;
    e->record = effects_response(fx, type);
    *fx->last_record = e;
    fx->last_record = &e->next;
    return e->record;
}

void effects_reply(struct effects *fx, uint64_t token, void *response)
{
    struct effect_reply *e = arena_alloc(fx->arena, sizeof *e);
    e->token = token;
    e->response = response;
    *fx->last_reply = e;
    fx->last_reply = &e->next;
}
