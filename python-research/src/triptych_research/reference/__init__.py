"""The models in plain NumPy, written to be read: slow, short, and what every graph is judged by.

Must not depend on ONNX, nor on anything that a graph is made with.
"""


class ReferenceMismatchError(Exception):
    """The reference disagrees with PyTorch, or cannot be compared."""
