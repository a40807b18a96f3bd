// Leaves in mid-stream, twice, and stays alive: each time the hot path must free the slot. Prints what it saw as JSON.
import OpenAI from "openai";

const [model, metricsURL] = process.argv.slice(2);
const client = new OpenAI({ maxRetries: 0 });
// It would go on for minutes.
const endless = {
  model,
  messages: [{ role: "user", content: "Tell me a very long story." }],
  stream: true,
  max_tokens: 6000,
  ignore_eos: true,
};
const LIMIT_MS = 15_000;
const BETWEEN_MS = 20;

async function rows() {
  const text = await (await fetch(metricsURL)).text();
  const [, count] = text.match(/^hotpath_decoding_rows\{.*\} (\d+)$/m);
  return Number(count);
}

async function until(wanted) {
  const deadline = performance.now() + LIMIT_MS;
  for (let seen = await rows(); seen !== wanted; seen = await rows()) {
    if (performance.now() > deadline) throw new Error(`never saw ${wanted} rows; last ${seen}`);
    await new Promise((resolve) => setTimeout(resolve, BETWEEN_MS));
  }
  return wanted;
}

// Each reads a few chunks, and then leaves in its own way.
async function byAbort() {
  const stream = await client.chat.completions.create(endless);
  let seen = 0;
  for await (const _ of stream) {
    seen += 1;
    if (seen !== 3) continue; // chunks that came with the third are still handed out after the abort
    await until(1);
    stream.controller.abort();
  }
  return seen;
}

async function byBreak() {
  let seen = 0;
  for await (const _ of await client.chat.completions.create(endless)) {
    seen += 1;
    if (seen === 3) break;
  }
  return seen;
}

const told = {};
for (const leave of [byAbort, byBreak]) told[leave.name] = { seen: await leave(), rows: await until(0) };
console.log(JSON.stringify(told));
