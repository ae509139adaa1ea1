// What all Node examples share: settings from the environment, the work, a clean stop.
const { Kafka, logLevel } = require('kafkajs');
const fs = require('node:fs');

const env = (name, otherwise) => process.env[name] || otherwise;

const workMs = Number(env('TALLY_WORK_MS', '2'));

function consumer(settings = {}) {
  const kafka = new Kafka({
    clientId: env('TALLY_INSTANCE', 'example'),
    brokers: [env('TALLY_BOOTSTRAP', '127.0.0.1:9092')],
    logLevel: logLevel.ERROR,
  });
  return kafka.consumer({
    groupId: env('TALLY_GROUP', 'example'),
    heartbeatInterval: setting('heartbeat.interval.ms', 3000),
    ...settings,
  });
}

// Subscribes, runs, and leaves the group at SIGTERM or SIGINT.
async function run(c, how) {
  const stop = async () => {
    await c.disconnect();
    process.exit(0);
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  await c.connect();
  await c.subscribe({
    topic: env('TALLY_TOPIC', 'example'),
    fromBeginning: env('TALLY_RESET', 'earliest') === 'earliest',
  });
  await c.run(how);
}

const work = () => new Promise((done) => setTimeout(done, workMs));

// Written at once, so that nothing that was done is lost with the process.
function show(topic, partition, message) {
  const key = message.key === null ? '' : message.key.toString();
  fs.writeSync(1, `${topic}/${partition}/${message.offset} ${key}\n`);
}

const after = (message) => (BigInt(message.offset) + 1n).toString();

const setting = (name, otherwise) => {
  const argument = process.argv.find((a) => a.startsWith(`${name}=`));
  return argument ? Number(argument.slice(name.length + 1)) : otherwise;
};

module.exports = { consumer, env, run, work, show, after, setting };
