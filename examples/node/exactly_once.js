// The offset is kept where the result is: both in one SQLite transaction. Nothing is missed and
// nothing repeated, whatever dies when. The offset in the database is also the fence: a copy that
// has lost its partition finds that somebody else moved it, and lets go.
const Database = require('better-sqlite3');
const { consumer, env, run, work, show } = require('./example');

const group = env('TALLY_GROUP', 'example');
const instance = env('TALLY_INSTANCE', 'example');
const file = process.argv.slice(2).find((a) => !a.includes('=')) || env('TALLY_DB', 'results.db');
// What stands for the ends of a partition whose first record is not stored yet; kafkajs's names.
const start = env('TALLY_RESET', 'earliest') === 'latest' ? -1 : -2;

const db = new Database(file, { timeout: 10000 }); // the copies share the file
db.pragma('journal_mode = WAL');
db.pragma('synchronous = NORMAL');
db.exec(`
  CREATE TABLE IF NOT EXISTS offsets (consumer_group TEXT, topic TEXT, partition INTEGER,
    next_offset INTEGER, PRIMARY KEY (consumer_group, topic, partition));
  CREATE TABLE IF NOT EXISTS results (topic TEXT, partition INTEGER, record_offset INTEGER,
    key TEXT, instance TEXT);`);
const insertOffset = db.prepare('INSERT OR IGNORE INTO offsets VALUES (?, ?, ?, ?)');
const selectOffset = db.prepare(
  'SELECT next_offset FROM offsets WHERE consumer_group = ? AND topic = ? AND partition = ?',
);
const moveOffset = db.prepare(
  'UPDATE offsets SET next_offset = ?' +
    ' WHERE consumer_group = ? AND topic = ? AND partition = ? AND next_offset = ?',
);
const insertResult = db.prepare('INSERT INTO results VALUES (?, ?, ?, ?, ?)');

const c = consumer();
const owned = new Map(); // "topic/partition" -> position, as it stands in the database

function goToStored(topic, partition) {
  insertOffset.run(group, topic, partition, start);
  const next = selectOffset.get(group, topic, partition).next_offset;
  owned.set(`${topic}/${partition}`, next);
  c.seek({ topic, partition, offset: String(next) });
}

// Result and offset; false: another copy has moved the offset.
const save = db.transaction((topic, partition, message, from) => {
  const offset = Number(message.offset);
  if (!moveOffset.run(offset + 1, group, topic, partition, from).changes) return false;
  insertResult.run(topic, partition, offset, String(message.key ?? ''), instance);
  return true;
});

c.on(c.events.GROUP_JOIN, ({ payload }) => {
  owned.clear();
  for (const [topic, partitions] of Object.entries(payload.memberAssignment)) {
    for (const partition of partitions) goToStored(topic, partition);
  }
});

run(c, {
  autoCommit: false,
  eachMessage: async ({ topic, partition, message }) => {
    const where = `${topic}/${partition}`;
    if (!owned.has(where) || Number(message.offset) < owned.get(where)) return;
    await work();
    const from = owned.get(where); // a rebalance may have come meanwhile
    if (from === undefined || Number(message.offset) < from) return;
    if (!save.immediate(topic, partition, message, from)) {
      goToStored(topic, partition);
      return;
    }
    owned.set(where, Number(message.offset) + 1);
    show(topic, partition, message);
  },
});
