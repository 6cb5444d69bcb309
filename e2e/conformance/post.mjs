// Posts events with the CloudEvents SDK for JavaScript, and reads them back with it.
//
//   node post.mjs http://127.0.0.1:8080
import { deepStrictEqual as same, strictEqual } from "node:assert";
import { setTimeout as sleep } from "node:timers/promises";
import { CloudEvent, HTTP } from "cloudevents";

const base = process.argv[2];

async function post(headers, body) {
  const answer = await fetch(`${base}/v1/events`, { method: "POST", headers, body });
  const json = await answer.json();
  strictEqual(answer.status, 202, JSON.stringify(json));
  return json;
}

async function stored(source, id) {
  const query = new URLSearchParams({ source, id });
  for (let tries = 0; tries < 300; tries++) {
    const answer = await fetch(`${base}/v1/event?${query}`);
    if (answer.status === 200) {
      const headers = { "content-type": "application/cloudevents+json" };
      return HTTP.toEvent({ headers, body: await answer.text() });
    }
    await sleep(100);
  }
  throw new Error(`${source} ${id} is not to be read`);
}

// What came back must be what was sent, as the SDK sees both.
function compare(sent, read) {
  const base64 = (data) => Buffer.from(data).toString("base64");
  const plain = (event) => {
    const { data, data_base64, ...attributes } = event.toJSON();
    const bytes = typeof data === "string" || data instanceof Uint8Array;
    return { ...attributes, data: data_base64 ?? (bytes ? base64(data) : data) };
  };
  same(plain(read), plain(sent));
}

const attributes = (id) => ({
  id, source: "/js/Z%C3%BCrich?a=b#c", type: "com.example.js", subject: "Zürich 😀 100%",
  time: "2026-02-03T04:05:06.789Z", dataschema: "https://example.com/schema", tenant: "a b",
});
const events = [
  new CloudEvent({ ...attributes("json"), datacontenttype: "application/json", data: { n: 1.5, s: "ä", list: [null, true] } }),
  new CloudEvent({ ...attributes("text"), datacontenttype: "text/plain", data: "grüße" }),
  new CloudEvent({ ...attributes("bytes"), datacontenttype: "application/octet-stream", data: new Uint8Array([0, 255, 128]) }),
  new CloudEvent({ ...attributes("none") }),
];
const bodies = { structured: HTTP.structured, binary: HTTP.binary };
for (const [mode, encode] of Object.entries(bodies)) {
  for (const event of events) {
    const sent = event.cloneWith({ id: `${mode}-${event.id}` });
    const { headers, body } = encode(sent);
    // The SDK leaves it to its caller to escape what a header cannot hold (HTTP binding, 3.1.3.2).
    for (const name in headers)
      if (name.startsWith("ce-")) headers[name] = headers[name].replace(/[^ -~]|[%"]/gu, encodeURIComponent);
    await post(headers, body);
    // In binary mode it says `application/json` where an event says nothing of its data.
    const datacontenttype = mode === "binary" ? headers["content-type"] : sent.datacontenttype;
    compare(sent.cloneWith({ datacontenttype }), await stored(sent.source, sent.id));
  }
}
const batch = events.map((event) => event.cloneWith({ id: `batch-${event.id}` }));
const told = await post({ "content-type": "application/cloudevents-batch+json" },
  `[${batch.map((event) => HTTP.structured(event).body).join(",")}]`);
strictEqual(told.accepted, batch.length);
for (const sent of batch) compare(sent, await stored(sent.source, sent.id));
console.log(`${events.length * 3} events came back as they were sent`);
