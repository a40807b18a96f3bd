// A file's life, as a Node program has it; prints what it got as JSON.
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ maxRetries: 0 }); // OPENAI_BASE_URL and OPENAI_API_KEY say where and who

const lines = '{"custom_id": "a"}\n{"custom_id": "b"}\n';
const made = await client.files.create({ file: await toFile(Buffer.from(lines), "requests.jsonl"), purpose: "batch" });
const listed = [];
for await (const file of client.files.list({ limit: 1 })) listed.push(file.id);
const found = await client.files.retrieve(made.id);
const content = await (await client.files.content(made.id)).text();
const { deleted } = await client.files.delete(made.id);
const error = await client.files.retrieve(made.id).then(
  () => null,
  ({ status, code, param }) => ({ status, code, param }),
);

console.log(JSON.stringify({ made, found, listed: listed.includes(made.id), same: content === lines, deleted, error }));
