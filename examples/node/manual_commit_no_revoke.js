// Work first, commit after, from time to time; nothing is done when partitions are taken away,
// so a rebalance repeats the records worked on since the last commit.
const { consumer, run, work, show, after } = require('./example');

const commitEvery = 20;
const c = consumer();
let count = 0;

run(c, {
  autoCommit: false,
  eachMessage: async ({ topic, partition, message }) => {
    await work();
    show(topic, partition, message);
    if (++count % commitEvery === 0) {
      await c.commitOffsets([{ topic, partition, offset: after(message) }]);
    }
  },
});
