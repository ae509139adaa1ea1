// Work first, commit after. The handler of a batch commits what it has done before it returns,
// and gives up as soon as the partition is no longer its own. At least once: a crash repeats the
// records worked on since the last commit.
const { consumer, run, work, show, after } = require('./example');

const commitEvery = 20;
const c = consumer();

run(c, {
  autoCommit: false,
  eachBatchAutoResolve: false,
  eachBatch: async ({
    batch, resolveOffset, heartbeat, isRunning, isStale, commitOffsetsIfNecessary,
  }) => {
    let last = null;
    // Not consumer.commitOffsets(): that does nothing once the consumer is being disconnected, and
    // then what was done last would be done again.
    const commit = async () => {
      if (last === null) return;
      const partitions = [{ partition: batch.partition, offset: after(last) }];
      await commitOffsetsIfNecessary({ topics: [{ topic: batch.topic, partitions }] });
      last = null;
    };
    let count = 0;
    for (const message of batch.messages) {
      if (!isRunning() || isStale()) break;
      await work();
      show(batch.topic, batch.partition, message);
      resolveOffset(message.offset);
      last = message;
      if (++count % commitEvery === 0) {
        await commit();
        await heartbeat();
      }
    }
    await commit();
  },
});
