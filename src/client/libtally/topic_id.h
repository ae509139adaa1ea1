#pragma once
// The id of a topic, which librdkafka of Debian 12 does not give: one Metadata request of our own.

#include "client/libtally/claim.h"

// bootstrap: HOST:PORT[,HOST:PORT...]; each is tried, for at most timeout_ms. ret_id is
// CLAIM_NO_ID when the broker has no ids or no such topic. TALLY_KAFKA: no address answers.
MUST_CHECK int topic_id_ask(const char *bootstrap, const char *topic, int timeout_ms,
                            char ret_id[CLAIM_TOPIC_ID], struct tally_error *error);
