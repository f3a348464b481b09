// Plain unary CreateTransfers calls, one transfer each, as an integrator in another language would make them.
//
// argv: one JSON object {proto, ca, cert, key, serverName, accounts, ledger, code, clients}.
// stdin: lines "SECONDS ADDRESS"; stdout: for each one line of JSON {done, others, counts}, counts being
// [bucket, count] of the latencies in the layout of cluster/bench/histogram.py. Ends when stdin ends.
"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const readline = require("node:readline");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const STEP_BITS = 7;
const DEADLINE_MS = 10_000;
const options = JSON.parse(process.argv[2]);
const definition = grpc.loadPackageDefinition(loader.loadSync(options.proto, { longs: Number, defaults: true }));
const credentials = grpc.credentials.createSsl(
  fs.readFileSync(options.ca), fs.readFileSync(options.key), fs.readFileSync(options.cert));
const stubs = new Map();

function stub(address) {
  if (!stubs.has(address)) {
    stubs.set(address, new definition.kibubu.ledger.v1.LedgerService(
      address, credentials, { "grpc.ssl_target_name_override": options.serverName }));
  }
  return stubs.get(address);
}

// 48 bits of Unix milliseconds, 16 of this process, then a counter: unique and growing.
const mark = crypto.randomBytes(2);
let counter = BigInt(crypto.randomInt(2 ** 31)) << 32n;

function newId() {
  const id = Buffer.alloc(16);
  id.writeUIntBE(Date.now(), 0, 6);
  mark.copy(id, 6);
  id.writeBigUInt64BE(counter, 8);
  counter += 1n;
  return id;
}

function newTransfer() {
  const many = options.accounts.length;
  const at = crypto.randomInt(many);
  return {
    id: newId(),
    debitAccount: options.accounts[at],
    creditAccount: options.accounts[(at + crypto.randomInt(1, many)) % many],
    amountMinor: 1,
    ledger: options.ledger,
    code: options.code,
  };
}

function bucketOf(us) {
  const shift = Math.max(Math.floor(Math.log2(Math.max(us, 1))) - STEP_BITS, 0);
  return (shift << STEP_BITS) + Math.floor(us / 2 ** shift);
}

function run(seconds, address) {
  const service = stub(address);
  const endMs = performance.now() + seconds * 1_000;
  const counts = new Map();
  const others = {};
  let done = 0;

  function caller(finished) {
    const sentMs = performance.now();
    if (sentMs >= endMs) return finished();
    const deadline = new Date(Date.now() + DEADLINE_MS);
    service.createTransfers({ transfers: [newTransfer()] }, { deadline }, (error, answer) => {
      const nowMs = performance.now();
      if (nowMs > endMs) return finished();
      const name = error ? grpc.status[error.code] : answer.results[0].statusName;
      if (error || answer.results[0].status !== 0) {
        others[name] = (others[name] || 0) + 1;
      } else {
        done += 1;
        const bucket = bucketOf(Math.floor((nowMs - sentMs) * 1_000));
        counts.set(bucket, (counts.get(bucket) || 0) + 1);
      }
      return caller(finished);
    });
  }

  const callers = Array.from({ length: options.clients }, () => new Promise(caller));
  return Promise.all(callers).then(() => ({ done, others, counts: [...counts] }));
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [seconds, address] = line.split(" ");
    process.stdout.write(JSON.stringify(await run(Number(seconds), address)) + "\n");
  }
  process.exit(0);
}

main();
