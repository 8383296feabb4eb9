// The article's way: generic-pool hands out children that child_process.fork started.
"use strict";

const genericPool = require("generic-pool");
const { start, ask } = require("./forking.js");

exports.open = async (workers) => {
  const factory = { create: start, destroy: async (child) => child.kill() };
  const pool = genericPool.createPool(factory, { min: workers, max: workers });
  return {
    async request(number) {
      const child = await pool.acquire();
      try {
        return await ask(child, number);
      } finally {
        await pool.release(child);
      }
    },
    async close() {
      await pool.drain();
      await pool.clear();
    },
  };
};
