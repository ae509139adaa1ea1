#pragma once
// The id of a topic, which librdkafka of Debian 12 does not give: one Metadata request of our own.

#include "client/libtally/claim.h"

// brokers: HOST:PORT[,HOST:PORT...]; each is tried, for at most timeout_ms, until one knows.
// ret_id is CLAIM_NO_ID when the broker's protocol has no ids. TALLY_KAFKA: no address answers, or
// none knows the topic (it is being deleted, or the broker has just started).
MUST_CHECK int topic_id_ask(const char *brokers, const char *topic, int timeout_ms,
                            char ret_id[CLAIM_TOPIC_ID], struct tally_error *error);
