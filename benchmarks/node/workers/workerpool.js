"use strict";

require("workerpool").worker({ trivial: (number) => number + 1 });
