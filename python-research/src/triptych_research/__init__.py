"""Where models come from: weights in, checked ONNX bundles out.

Each family of models has a room, `embedding`, `decoder` or `classification`, whose `export` implements `family.Family`.
What all share is here, and data goes one way: `recipes` names an origin and a family, `sources` fetches files, `export`
has the family read them, build graphs and judge these, `bundle` writes and reads what the hot path serves (`tasks` says
what each task needs of it), and `store` says which revision is current. `reference` is the same models in NumPy,
written to be read.

This package never sits on a request's path and must not depend on the gateway or the hot path, nor they on it.
"""
