// Reads a stream until it breaks. Says "reading" after the first chunk, and at the end prints the error as JSON.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const stream = await client.chat.completions.create({
  model: process.argv[2],
  messages: [{ role: "user", content: "Tell me a very long story." }],
  stream: true,
  max_tokens: 6000,
  ignore_eos: true,
});
const finishes = [];
let reading = false;
try {
  for await (const chunk of stream) {
    if (!reading) console.log("reading");
    reading = true;
    if (chunk.choices[0]?.finish_reason) finishes.push(chunk.choices[0].finish_reason);
  }
  console.log(JSON.stringify({ error: null, finishes }));
} catch (error) {
  const { code, type, message } = error;
  console.log(JSON.stringify({ error: error instanceof OpenAI.APIError, code, type, message, finishes }));
}
