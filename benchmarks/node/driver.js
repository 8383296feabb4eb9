// Opens one of node/peers/ and makes batches of calls, as they are asked for on stdin: what driver.py does for Python.
"use strict";

const path = require("node:path");
const readline = require("node:readline");
const { performance } = require("node:perf_hooks");

function say(what) {
  process.stdout.write(JSON.stringify(what) + "\n");
}

// The same as `batch` in harness.py.
async function batch(request, { count, at_a_time, seconds }) {
  const latencies = [];
  const started = performance.now();
  const last = started + seconds * 1000;
  let next = 0;
  async function client() {
    while (next < count) {
      const number = next++;
      const start = performance.now();
      await request(number);
      const end = performance.now();
      latencies.push((end - start) / 1000);
      if (end > last) break;
    }
  }
  await Promise.all(Array.from({ length: at_a_time }, client));
  return { latencies, elapsed: (performance.now() - started) / 1000 };
}

async function main() {
  const peer = await require(path.join(__dirname, "peers", process.argv[2])).open(Number(process.argv[3]));
  say({ ready: await peer.request(7) });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    say(await batch(peer.request, JSON.parse(line)));
  }
  await peer.close();
  process.exit(0);
}

main().catch((error) => {
  const missing = ["MODULE_NOT_FOUND", "ERR_MODULE_NOT_FOUND"].includes(error.code);
  const first = String(error.message).split("\n")[0];
  process.stdout.write(JSON.stringify(missing ? { missing: first } : { failed: String(error) }) + "\n", () => process.exit(1));
});
