// The mini-program on a fake phone. Takes commands on standard input, a JSON object a line, and answers each with one.

import { createInterface } from "node:readline";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { FakeTime, turns } from "./time.mjs";
import { FakeWeChat } from "./wechat.mjs";

const MOST_PAGES = 10;
const MOST_WAITS = 60;
const MOST_FLIGHTS = 5_000;
const { root, folder, host: given, told } = JSON.parse(process.argv[2]);
const time = new FakeTime();
const wechat = new FakeWeChat(folder, time, told);
const host = { ...given, asked: [], token: async (fresh) => (fresh ? given.freshToken ?? given.token : given.token) };
if (given.card) host.identity = async () => given.card;

// --- Pages ---

const stack = [];
const pages = new Map();
let registered = null;

async function optionsOf(route) {
  if (!pages.has(route)) {
    await import(pathToFileURL(path.join(root, `${route}.ts`)));
    pages.set(route, registered);
  }
  return pages.get(route);
}

async function push(url) {
  const [route, query = ""] = url.split("?");
  const options = await optionsOf(route);
  const page = { ...options, route, data: structuredClone(options.data) };
  page.setData = (patch, drawn) => {
    for (const [place, value] of Object.entries(patch)) set(page.data, place.split("."), value);
    obey(page);
    wechat.emit("changed");
    if (drawn) setImmediate(drawn);
  };
  stack.push(page);
  page.onLoad?.(Object.fromEntries(query.split("&").filter(Boolean).map((pair) => pair.split("="))));
  page.onShow?.();
}

/** As it goes through to the view: plain data, and nothing undefined. */
function set(data, [first, ...rest], value) {
  if (value === undefined) throw new Error(`setData of undefined: ${first}`);
  if (rest.length) set((data[first] ??= {}), rest, value);
  else data[first] = JSON.parse(JSON.stringify(value));
}

/** The person does what the page says. */
function obey(page) {
  const { turn_left: left, turn_right: right } = page.data.t ?? {};
  wechat.pose = { [left]: "left", [right]: "right" }[page.data.hint] ?? "front";
}

const absolute = (url) => (url.startsWith("/") ? url.slice(1) : path.posix.join(path.posix.dirname(stack.at(-1).route), url));
const pop = () => stack.pop().onUnload?.();

Object.assign(wechat, {
  navigateTo: async ({ url }) => {
    if (stack.length >= MOST_PAGES) throw new Error("navigateTo:fail webview count limit exceed");
    const next = absolute(url);
    stack.at(-1).onHide?.();
    await push(next);
  },
  redirectTo: async ({ url }) => {
    const next = absolute(url);
    pop();
    await push(next);
  },
  navigateBack: async ({ delta = 1 }) => {
    for (let left = delta; left > 0; left -= 1) pop();
    stack.at(-1).onShow?.();
  },
});

Object.assign(globalThis, {
  wx: wechat,
  Page: (options) => (registered = options),
  getApp: () => ({ checkIn: host }),
  getCurrentPages: () => stack,
});
const { PHONES_TIME } = await import(pathToFileURL(path.join(root, "checkin/core/wechat.ts")));
Object.assign(PHONES_TIME, { now: time.now, after: time.after });

// --- Commands ---

const COMMANDS = {
  open: ({ url }) => push(url),
  run: ({ js }) => evaluate(js),
  pass: ({ ms }) => time.pass(ms),
  until: ({ js }) => until(js),
};

function evaluate(js) {
  return new Function("page", "stack", "wx", "time", "told", "host", `return (${js})`)(stack.at(-1), stack, wechat, time, told, host);
}

/**
 * Waits for something true. Waits are counted, not timed, for the machine may stand still meanwhile; while the service has
 * nothing to answer, time flies from one timer to the next.
 */
async function until(js) {
  for (let [waits, flights] = [0, 0]; waits < MOST_WAITS && flights < MOST_FLIGHTS; ) {
    await turns();
    const found = await evaluate(js);
    if (found) return found;
    if (wechat.onTheWire === 0 && time.skip(120_000)) {
      flights += 1;
      continue;
    }
    await new Promise((resolve) => {
      const timer = setTimeout(() => resolve((waits += 1)), 1000);
      wechat.once("changed", () => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
  throw new Error(`never so: ${js}; ${stack.at(-1)?.route} shows ${JSON.stringify({ ...stack.at(-1)?.data, t: null })}; ${JSON.stringify(wechat.counts)}`);
}

process.on("unhandledRejection", (error) => console.log(JSON.stringify({ defect: String(error?.stack ?? error) })));
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  try {
    const value = await COMMANDS[command.do](command);
    await turns();
    console.log(JSON.stringify({ value: value ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error?.stack ?? error) }));
  }
}
process.exit(0);
