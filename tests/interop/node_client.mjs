// Node's own WebSocket client in the conversation of conversation.py: node [--experimental-websocket] this.mjs URL
const ws = new WebSocket(process.argv[2], "chat");
ws.binaryType = "arraybuffer";

const waiting = [];
const arrived = [];
const push = (item) => (waiting.length ? waiting.shift()(item) : arrived.push(item));
const next = () => (arrived.length ? Promise.resolve(arrived.shift()) : new Promise((resolve) => waiting.push(resolve)));
ws.onopen = () => push("open");
ws.onmessage = (event) => push(event.data);
ws.onclose = (event) => push({ code: event.code, reason: event.reason });
ws.onerror = (event) => console.error(event.message ?? "error");

const fail = (words) => {
  console.error(words);
  process.exit(1);
};
const same = (a, b) => (typeof a === "string" ? a === b : b instanceof ArrayBuffer && Buffer.from(a).equals(Buffer.from(b)));

if ((await next()) !== "open") fail("not opened");
if (ws.protocol !== "chat") fail("no subprotocol");
const mebibyte = Buffer.alloc(2 ** 20, Buffer.from([...Array(256).keys()]));
for (const message of ["hola, ¿qué tal? 😀", Buffer.from([0, 255]), "", Buffer.alloc(0), "ñ".repeat(40000), mebibyte]) {
  ws.send(message);
  if (!same(message, await next())) fail(`not the same: ${message.length}`);
}
ws.send("fragments");
if ((await next()) !== "one ¡dos! three") fail("fragments");
ws.send("ping");
if ((await next()) !== "pong") fail("ping");
ws.send("close");
const end = await next();
if (end.code !== 3000 || end.reason !== "that was all") fail(`closed with ${end.code} ${end.reason}`);
console.log("good");
