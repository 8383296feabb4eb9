// piscina: threads, not processes. A crash in native code or process memory takes all of them.
"use strict";

const path = require("node:path");
const { pathToFileURL } = require("node:url");
const { Piscina } = require("piscina");

exports.open = async (workers) => {
  const filename = pathToFileURL(path.join(__dirname, "..", "workers", "trivial.mjs")).href;
  const pool = new Piscina({ filename, minThreads: workers, maxThreads: workers });
  return { request: (number) => pool.run(number), close: () => pool.destroy() };
};
