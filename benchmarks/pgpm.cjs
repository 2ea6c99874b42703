// Drives the engine of pgpm: node pgpm.cjs ENGINE FOLDER deploy|fast|verify|revert|status [CHANGE]
// `fast` is the deploy in one piece; where EACH is set, deploy and revert make a transaction for each change.
const [engine, folder, verb, toChange] = process.argv.slice(2);
const { PgpmMigrate, deployModuleFast, isBundledDeployResult } = require(
  require.resolve('@pgpmjs/core', { paths: [engine] }),
);

const config = {
  host: '127.0.0.1',
  port: Number(process.env.PGPORT),
  user: process.env.PGUSER || 'postgres',
  password: process.env.PGPASSWORD,
  database: process.env.PGDATABASE,
};
const options = { modulePath: folder, toChange, usePlan: true, useTransaction: !process.env.EACH };
const verbs = {
  deploy: () => new PgpmMigrate(config).deploy(options),
  fast: async () => {
    const done = await deployModuleFast(folder, { config, useTransaction: true });
    return isBundledDeployResult(done) ? done : { failed: done };
  },
  verify: () => new PgpmMigrate(config).verify(options).then(() => ({})),
  revert: () => new PgpmMigrate(config).revert(options),
  status: () => new PgpmMigrate(config).status().then((rows) => console.log(JSON.stringify(rows)) || {}),
};

verbs[verb]()
  .then((done) => process.exit(done.failed ? 1 : 0))
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
