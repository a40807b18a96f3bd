"""Llama-architecture text generation: weights from a GGUF file or a folder, ONNX graphs, and the proof that they agree.

Data goes one way: `checkpoint` reads a source (`gguf_file`, `llama_folder`, `tokenizer`, `chat`) into weights
(`weights`, `blocks`), `graph` turns them into ONNX with constants as `packing` lays them out, `session` runs a graph,
`golden` judges it by `reference.decoder` and `quality` by `float32`, and `export` is the family that an export asks for
each of these steps.
"""
