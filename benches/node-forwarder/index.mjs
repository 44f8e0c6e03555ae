// The same forwarder in Node, with its SDK: the records of a batch as events of EventBridge, ten a call, only what failed
// again. No order, no bookkeeping: what such functions usually are. It asks Lambda's runtime interface itself, which is less
// than Lambda's own runtime for Node does.
import { EventBridgeClient, PutEventsCommand } from "@aws-sdk/client-eventbridge";
import http from "node:http";

const runtime = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation`;
const client = new EventBridgeClient({});
const bus = process.env.OUTBOX_BUS;

function request(method, url, body) {
  return new Promise((resolve, reject) => {
    const call = http.request(url, { method }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () => resolve({ headers: response.headers, body: Buffer.concat(chunks).toString() }));
    });
    call.on("error", reject);
    call.end(body);
  });
}

function entries(record) {
  const item = record.dynamodb.NewImage;
  return item.events.L.map(({ M: event }, index) => ({
    EventBusName: bus,
    Source: "/carts",
    DetailType: event.type.S,
    Detail: JSON.stringify({
      specversion: "1.0",
      id: `${item.key.S}@${item.incarnation.N}.${item.sequence.N}.${index}`,
      source: "/carts",
      type: event.type.S,
      partitionkey: item.key.S,
      data: JSON.parse(event.data.S),
    }),
  }));
}

async function publish(batch) {
  for (let left = batch; left.length > 0; ) {
    const answer = await client.send(new PutEventsCommand({ Entries: left }));
    left = left.filter((_, index) => answer.Entries[index].ErrorCode !== undefined);
  }
}

async function forward({ Records }) {
  const all = Records.filter((record) => record.eventName === "INSERT").flatMap(entries);
  const batches = [];
  for (let at = 0; at < all.length; at += 10) batches.push(all.slice(at, at + 10));
  const worker = async () => {
    for (let batch = batches.shift(); batch; batch = batches.shift()) await publish(batch);
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  return { batchItemFailures: [] };
}

for (;;) {
  const { headers, body } = await request("GET", `${runtime}/next`);
  const answer = await forward(JSON.parse(body));
  await request("POST", `${runtime}/${headers["lambda-runtime-aws-request-id"]}/response`, JSON.stringify(answer));
}
