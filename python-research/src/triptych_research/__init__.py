"""Where models come from: weights in, checked ONNX bundles out.

Data goes one way: `sources` fetches files, `checkpoint` reads them, `encoder` (with `quantize`) makes graphs, `golden`
and `evaluate` judge them, `bundle` writes and reads what the hot path serves (`tasks` says what each task needs of it),
and `store` says which revision is current. `decoder` does all of this for models that generate text. `reference` is the
same models in NumPy, written to be read.

This package never sits on a request's path and must not depend on the gateway or the hot path, nor they on it.
"""
