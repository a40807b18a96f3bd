// A chat as a Node program has it: streamed, whole, raw, typed; and a moderation. Prints what it got as JSON.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const model = process.argv[2];
const client = new OpenAI({ maxRetries: 0 });
const request = {
  model,
  messages: [{ role: "user", content: "Write the numbers from 1 to 20, separated by commas." }],
  temperature: 0,
  max_tokens: 24,
};

const chunks = [];
const streamed = { ...request, stream: true, stream_options: { include_usage: true } };
for await (const chunk of await client.chat.completions.create(streamed)) chunks.push(chunk);

const events = [];
const runner = client.chat.completions.stream(request);
runner.on("content", (delta) => events.push(delta));
const collected = await runner.finalChatCompletion();

const { data: whole, response, request_id: requestId } = await client.chat.completions
  .create({ ...request, logprobs: true, top_logprobs: 2 })
  .withResponse();
const raw = await client.chat.completions.create(request).asResponse();

const Town = z.object({
  size: z.enum(["small", "large"]),
  rivers: z.array(z.object({ name: z.string().max(8), long: z.boolean() })).min(1).max(2),
});
const parsed = await client.chat.completions.parse({
  ...request,
  max_tokens: 100,
  response_format: zodResponseFormat(Town, "town"),
});
const cut = await client.chat.completions
  .parse({ ...request, max_tokens: 3, response_format: zodResponseFormat(Town, "town") })
  .catch((error) => error.constructor.name);

const refused = await client.chat.completions
  .create({ ...request, tools: [{ type: "function", function: { name: "f", parameters: {} } }] })
  .catch(({ constructor, status, code, param }) => ({ name: constructor.name, status, code, param }));
const moderation = await client.moderations.create({
  input: ["They undressed each other and had passionate sex all night.", "A cat sleeps."],
});

console.log(
  JSON.stringify({
    streamed: chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""),
    chunks: chunks.length,
    usage: chunks.at(-1).usage,
    events: events.join(""),
    collected: collected.choices[0].message.content,
    whole: whole.choices[0].message.content,
    logprobs: whole.choices[0].logprobs.content,
    requestId,
    header: response.headers.get("x-request-id"),
    raw: { type: raw.headers.get("content-type"), timing: raw.headers.get("server-timing"), body: await raw.json() },
    parsed: parsed.choices[0].message.parsed,
    cut,
    refused,
    flagged: moderation.results.map((result) => result.flagged),
  }),
);
