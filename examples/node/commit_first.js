// Commit first, work after: at most once. What is in hand when the process dies is missed.
const { consumer, run, work, show, after } = require('./example');

const c = consumer();

run(c, {
  autoCommit: false,
  eachMessage: async ({ topic, partition, message }) => {
    await c.commitOffsets([{ topic, partition, offset: after(message) }]);
    await work();
    show(topic, partition, message);
  },
});
