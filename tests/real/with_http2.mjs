// HTTP/2 as Node speaks it (nghttp2 below).
//
// usage: with_http2.mjs     with WEIR_EDGE, WEIR_CA, WEIR_KEY; prints what came of it as JSON

import { connect, constants } from "node:http2";
import { readFileSync } from "node:fs";

const { WEIR_EDGE: edge, WEIR_CA: ca, WEIR_KEY: key } = process.env;
// A table of no bytes: nghttp2's decoder insists on being told that ours is empty.
const session = connect(edge, { ca: readFileSync(ca), settings: { headerTableSize: 0, initialWindowSize: 1000 } });
const auth = { authorization: `Bearer ${key}` };

/** One exchange; `more` are further fields, `send` what to do with the stream. */
function ask(path, more = {}, send = (stream) => stream.end()) {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":path": path, ...auth, ...more }, { waitForTrailers: true, endStream: false });
    const said = { trailers: null, body: "" };
    stream.setEncoding("utf8");
    stream.on("continue", () => { said.continued = true; stream.end("after all"); });
    stream.on("response", (head) => { said.status = head[":status"]; });
    stream.on("trailers", (fields) => { said.trailers = { ...fields }; });
    stream.on("data", (piece) => { said.body += piece; });
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-late": "1" }));
    stream.on("error", reject);
    stream.on("end", () => resolve(said));
    send(stream);
  });
}

const found = {};
const many = await Promise.all(Array.from({ length: 90 }, (_, number) =>
  ask(`/echo/${number}`, { ":method": "POST" }, (stream) => stream.end("y".repeat(number * 500)))));
found.many = many.map((said, number) => said.status === 200 && JSON.parse(said.body).length === number * 500);
const waited = await ask("/echo/wait", { ":method": "POST", expect: "100-continue" }, () => {});
found.waited = [waited.continued, waited.status, JSON.parse(waited.body).body];
const trailed = await ask("/trailed", { te: "trailers" });
found.trailed = trailed.trailers?.["x-end"];
found.pinged = await new Promise((resolve) => session.ping((error) => resolve(error === null)));
found.cancelled = await new Promise((resolve) => {
  const stream = session.request({ ":path": "/large", ...auth });
  stream.on("data", () => stream.close(constants.NGHTTP2_CANCEL));
  stream.on("close", () => resolve(stream.rstCode));
});
found.after = (await ask("/echo/after")).status;
session.close(() => console.log(JSON.stringify(found)));
