"""Llama-architecture text generation: weights from a GGUF file or a folder, ONNX graphs, and the proof that they agree.

Data goes one way: `gguf_file` and `llama_folder` read a source into `weights` (in the numeric forms of `blocks`), `graph`
turns them into ONNX, `session` runs a graph in the chunks of `chunks`, and `golden` and `quality` judge it by
`reference.decoder`. `tokenizer` and `chat` make what turns text and conversations into ids.
"""
