// The client commits by itself what eachMessage has finished, every autoCommitInterval.
const { consumer, run, work, show, setting } = require('./example');

run(consumer(), {
  autoCommit: true,
  autoCommitInterval: setting('auto.commit.interval.ms', 5000),
  eachMessage: async ({ topic, partition, message }) => {
    await work();
    show(topic, partition, message);
  },
});
