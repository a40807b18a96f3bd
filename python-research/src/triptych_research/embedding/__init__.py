"""BERT sentence encoders: weights from a checkpoint folder, packed ONNX graphs, and the proof that they agree.

Data goes one way: `checkpoint` reads a source, `graph` (with `quantize`) turns it into ONNX, `inference` runs a graph
as the hot path does, `golden` and `evaluate` judge it by `reference.bert` and on real texts, and `export` is
the family that an export asks for each of these steps.
"""
