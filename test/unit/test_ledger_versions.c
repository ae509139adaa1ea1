// Records of the ledger that an older tally wrote.

#include "core/ledger/ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/effects.h"
#include "schema.h"

// A group of which an administrator had set K back, by a tally that did not say why K went back or
// to where an owner had.
static const char version_0[] =
    "0267fee6d8a58cc44a39bb57e32f4d2c8ae00000000000000000000000000000000000000000000000000000"
    "044c000000000000000002bc0000000406000000000000000000000001000000000001000000000000000001"
    "f400000002000000010002000000000000000002bc00000003000000020003000000000000000003e8000000"
    "03000000000001000000000000000007d00000000000000000000000000a0000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000010000"
    "01a2249076d70d4f6666736574436f6d6d69744831303030202d3e2035303020627920636c69656e74207461"
    "6c6c792d67726f7570206174202f3132372e302e302e312c206e6f206d656d626572206f6620746865206772"
    "6f75700000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "000000000000000000000000000000000000000000000000000000020000000102410872646b61666b610b2f"
    "3132372e302e302e31116c696272646b61666b6120322e302e320f557365723a414e4f4e594d4f5553010202"
    "000100010102000000000000000000000000000003e800000000000003e800000000000003e8000000000000"
    "03e8ffffffffffffffff00000000000003e8000000000000000000000000000003e8ffffffffffffffff0000"
    "01a224906ec7ffffffffffffffff00000000000000000000ffffffffffffffff000000000000000000000000"
    "000000000000000000000001000000010101010000";

static struct bytes from_hex(const char *hex, uint8_t *to)
{
    size_t n = 0;
    for (; hex[2 * n]; n++) {
        unsigned byte;
        assert_int_equal(sscanf(hex + 2 * n, "%2x", &byte), 1);
        to[n] = (uint8_t)byte;
    }
    return (struct bytes){to, n};
}

static void test_partition_0(void **state)
{
    (void)state;
    uint8_t bytes[sizeof version_0];
    struct arena *a = arena_new();
    struct effects fx;
    struct ledger_partition_record old = {0};
    const char *where = "";
    assert_int_equal(
        kw_decode(&ledger_partition_record_msg, 0, from_hex(version_0, bytes), a, &old, &where), 0);
    struct ledger_logs logs = {0};
    struct ledger *l = ledger_new(&logs, LEDGER_AT_LEAST_ONCE);
    ledger_set_replay(l, true);
    ledger_apply(l, &ledger_partition_record_msg, &old);
    ledger_set_replay(l, false);

    effects_init(&fx, a);
    ledger_save(l, &fx);
    const struct ledger_partition_record *now = NULL;
    for (const struct effect_record *e = fx.first_record; e; e = e->next)
        if (e->type == &ledger_partition_record_msg)
            now = e->record;
    assert_non_null(now);
    assert_int_equal(now->k, 1100);
    assert_int_equal(now->n_runs, 5);
    assert_true(str_eq_c(now->altered.cause, "offsets_altered"));
    assert_true(str_eq_c(now->regressed.cause, "dup_commit_regressed"));
    assert_int_equal(now->altered.last_spell, 1);
    assert_int_equal(now->n_spells, 1);
    assert_int_equal(now->spells[0].mark, 1);
    assert_int_equal(now->spells[0].rewound_to, 1000);
    assert_int_equal(now->spells[0].rewound_k, 1100);
    assert_true(now->spells[0].watched);
    ledger_free(l);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_partition_0)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
