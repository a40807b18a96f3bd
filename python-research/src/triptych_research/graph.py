"""A little notation over onnx.helper, so that a graph reads like the model that it computes."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from triptych_research import kernels

MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators
_VERSIONS = {MICROSOFT: 1, kernels.DOMAIN: kernels.VERSION}  # of operators that are not ONNX's
OPSET = 18  # the first with ReduceMax over axes given as an input

# name, element type, axes: an int is a fixed size, a str a symbolic one.
Tensor = tuple[str, int, tuple[int | str, ...]]


class GraphBuilder:
    """Collects nodes and constants. Names of values are the caller's and must be unique."""

    def __init__(self, name: str, opset: int = OPSET) -> None:
        """`opset` is the version of the default operators."""
        self._name = name
        self._opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: np.ndarray | np.generic) -> str:
        """Store a constant and return its name. The same name again must mean the same value."""
        tensor = numpy_helper.from_array(np.array(value, order="C"), name)
        if self._constants.setdefault(name, tensor) != tensor:
            raise ValueError(f"constant {name} has two values")
        return name

    def node(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        """Add an operator with one output and return the output's name."""
        self.nodes(operator, inputs, [output], domain, **attributes)
        return output

    def nodes(self, operator: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any) -> None:
        """Add an operator with several outputs; an unwanted one is ""."""
        self._nodes.append(helper.make_node(operator, inputs, outputs, name=outputs[0], domain=domain, **attributes))

    def model(self, inputs: list[Tensor], outputs: list[Tensor]) -> onnx.ModelProto:
        """Return the checked model."""
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info(*tensor) for tensor in inputs],
            [helper.make_tensor_value_info(*tensor) for tensor in outputs],
            list(self._constants.values()),
        )
        domains = sorted({node.domain for node in self._nodes} - {""})
        opsets = [("", self._opset), *((domain, _VERSIONS[domain]) for domain in domains)]
        # The oldest format version that may hold the opset, so that any runtime that knows the operators reads the
        # file.
        imports = [helper.make_opsetid(*opset) for opset in opsets]
        version = helper.find_min_ir_version_for(imports, ignore_unknown=True)
        model = helper.make_model(graph, opset_imports=imports, producer_name="triptych", ir_version=version)
        onnx.checker.check_model(model)
        return model
