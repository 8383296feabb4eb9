// No pool at all: a fork for every request.
"use strict";

const { once } = require("node:events");
const { start, ask } = require("./forking.js");

exports.open = async () => ({
  async request(number) {
    const child = await start();
    const answer = await ask(child, number);
    const exited = once(child, "exit");
    child.disconnect(); // it has nothing more to wait for, and ends
    await exited;
    return answer;
  },
  async close() {},
});
