"""How ONNX Runtime is set up, the same for every graph, and as the hot path does it."""

import pathlib

import onnxruntime

from triptych_research import cpu


def session_options(threads: int = 1, spin_us: int = 0) -> onnxruntime.SessionOptions:
    """Return a session's options. `threads` is the number that one run may use."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Threads that spin without end starve whoever shares the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin_us else "0")
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(spin_us))
    # x86 without VNNI multiplies int8 with saturation, which costs as much accuracy again as int8 itself does. The
    # exact kernels give VNNI's results there; with VNNI they would only be half as fast.
    exact = "0" if cpu.has_int8_dot_product() else "1"
    options.add_session_config_entry("session.x64quantprecision", exact)
    options.enable_mem_pattern = False  # shapes differ from run to run
    return options


def open_session(graph: pathlib.Path | bytes, threads: int = 1, spin_us: int = 0) -> onnxruntime.InferenceSession:
    """Load a graph, with `session_options`."""
    model = graph if isinstance(graph, bytes) else str(graph)
    options = session_options(threads, spin_us)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
