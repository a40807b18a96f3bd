// What a Node program does with the service; prints what it got as JSON.
import OpenAI from "openai";

const model = process.argv[2];
const client = new OpenAI({ maxRetries: 0 }); // OPENAI_BASE_URL and OPENAI_API_KEY say where and who

const answer = await client.embeddings.create({ model, input: ["a", "b"] });
const models = [];
for await (const one of client.models.list()) models.push(one.id);
const error = await client.embeddings.create({ model: "no-such-model", input: "a" }).then(
  () => null,
  ({ status, code, param }) => ({ status, code, param }),
);

console.log(
  JSON.stringify({
    vectors: answer.data.map(({ embedding }) => Array.from(embedding)),
    usage: answer.usage,
    models,
    error,
    requestId: answer._request_id,
  }),
);
