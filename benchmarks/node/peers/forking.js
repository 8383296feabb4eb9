// A forked child, and a message there and back.
"use strict";

const path = require("node:path");
const { once } = require("node:events");
const { fork } = require("node:child_process");

const WORKER = path.join(__dirname, "..", "workers", "forked.js");

exports.start = async () => {
  const child = fork(WORKER);
  await once(child, "message"); // it is ready
  return child;
};

exports.ask = (child, number) =>
  new Promise((resolve, reject) => {
    const died = (code) => reject(new Error(`the child ended with ${code}`));
    child.once("exit", died);
    child.once("message", (answer) => {
      child.off("exit", died);
      resolve(answer);
    });
    child.send(number);
  });
