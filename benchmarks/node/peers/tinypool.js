// tinypool with processes: what Vitest uses.
"use strict";

const path = require("node:path");
const { pathToFileURL } = require("node:url");

exports.open = async (workers) => {
  const { Tinypool } = await import("tinypool");
  const filename = pathToFileURL(path.join(__dirname, "..", "workers", "trivial.mjs")).href;
  const pool = new Tinypool({ filename, runtime: "child_process", minThreads: workers, maxThreads: workers });
  return { request: (number) => pool.run(number), close: () => pool.destroy() };
};
