// What the article forks: says that it is there, and answers messages.
"use strict";

process.on("message", (number) => process.send(number + 1));
process.send("ready");
