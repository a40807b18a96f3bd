"""Llama-architecture text generation: weights from a GGUF file or a folder, ONNX graphs, and the proof that they agree.

Data goes one way: `checkpoint` reads a source (`gguf_file`, `llama_folder`, `tokenizer`, `chat`) into weights
(`weights`, `blocks`), `graph` turns them into ONNX, `session` runs a graph in the chunks of `chunks`, `golden` and
`quality` judge it by `reference.decoder`, and `export` is the family that an export asks for each of
these steps.
"""
