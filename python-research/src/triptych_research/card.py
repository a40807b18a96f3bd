"""What the model cards of all families share: when and where was measured, and figures as files."""

import datetime
import io
import os
import platform

import onnxruntime
from matplotlib.figure import Figure

from triptych_research import cpu


def machine() -> str:
    """Describe this machine in one line."""
    int8 = "with" if cpu.has_int8_dot_product() else "without"
    processor = f"{cpu.model_name()}, {os.cpu_count()} cores, {int8} int8 dot product"
    return f"{processor}, {platform.system()}, ONNX Runtime {onnxruntime.__version__}"


def today() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def png(figure: Figure) -> bytes:
    """Return a figure as a file's content."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()
