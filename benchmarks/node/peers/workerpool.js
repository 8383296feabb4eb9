// workerpool with processes.
"use strict";

const path = require("node:path");
const workerpool = require("workerpool");

exports.open = async (workers) => {
  const script = path.join(__dirname, "..", "workers", "workerpool.js");
  const pool = workerpool.pool(script, { workerType: "process", minWorkers: workers, maxWorkers: workers });
  return { request: (number) => pool.exec("trivial", [number]), close: () => pool.terminate() };
};
