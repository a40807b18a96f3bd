"""How ONNX Runtime is set up, the same for every graph, and as the hot path does it."""

import pathlib

import onnxruntime

from triptych_research import kernels


def session_options(threads: int = 1, spin_us: int = 0) -> onnxruntime.SessionOptions:
    """Return a session's options. `threads` is the number that one run may use."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Threads that spin without end starve whoever shares the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin_us else "0")
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(spin_us))
    options.enable_mem_pattern = False  # shapes differ from run to run
    return options


def open_session(
    graph: pathlib.Path | bytes, threads: int = 1, spin_us: int = 0, own_operators: bool = False
) -> onnxruntime.InferenceSession:
    """Load a graph, with `session_options`. Raises KernelsError where it is of our own operators, and these fail."""
    model = graph if isinstance(graph, bytes) else str(graph)
    options = session_options(threads, spin_us)
    if own_operators:
        kernels.register(options)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
