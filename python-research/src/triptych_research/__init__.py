"""Where models come from: weights in, checked ONNX bundles out.

Data goes one way: `sources` fetches files, `checkpoint` reads them, `encoder` (with `quantize`) makes graphs, `golden`
and `evaluate` judge them, `bundle` writes and reads what the hot path serves, and `store` says which revision is
current. `reference` is the same model in NumPy, written to be read.

This package never sits on a request's path and must not depend on the gateway or the hot path, nor they on it.
"""
