// Deploys a module with the engine of pgpm: node pgpm_deploy.cjs ENGINE FOLDER [CHANGE]
const [engine, folder, change] = process.argv.slice(2);
const { PgpmMigrate } = require(require.resolve('@pgpmjs/core', { paths: [engine] }));

new PgpmMigrate({
  host: '127.0.0.1',
  port: Number(process.env.PGPORT),
  user: 'postgres',
  password: process.env.PGPASSWORD,
  database: process.env.PGDATABASE,
})
  .deploy({ modulePath: folder, toChange: change, usePlan: true })
  .then((done) => process.exit(done.failed ? 1 : 0))
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
