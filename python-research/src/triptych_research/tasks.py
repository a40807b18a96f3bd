"""What a bundle of each task must hold beside files and graphs: the fields of its manifest, and its golden cases.

`bundle` reads and writes; what a task's numbers mean is said here, one entry for each task.
"""

import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from triptych.bundle.v1 import bundle_pb2
from triptych_research import golden
from triptych_research.decoder import golden as generation_golden

GoldenFile = bundle_pb2.GoldenFile | bundle_pb2.GenerationGoldenFile


@dataclass(frozen=True)
class Task:
    """How bundles of one task are checked. Functions raise GoldenError, whose message names the field."""

    golden_type: type[GoldenFile]
    manifest_checks: Callable[[bundle_pb2.Manifest], Mapping[str, bool]]  # by field, whether it is as it must be
    count_cases: Callable[[Any], int]
    check_cases: Callable[[bundle_pb2.Manifest, Any, Tokenizer], None]  # without running the model
    replay: Callable[[pathlib.Path, bundle_pb2.Manifest, Any, int], None]  # folder, …, and which of the graphs


# By the name of the manifest's field.
TASKS: Mapping[str, Task] = {
    "embedding": Task(
        golden_type=bundle_pb2.GoldenFile,
        manifest_checks=golden.manifest_checks,
        count_cases=lambda file: len(file.embeddings),
        check_cases=golden.check_cases,
        replay=golden.replay_graph,
    ),
    "generation": Task(
        golden_type=bundle_pb2.GenerationGoldenFile,
        manifest_checks=generation_golden.manifest_checks,
        count_cases=lambda file: len(file.generations),
        check_cases=generation_golden.check_cases,
        replay=generation_golden.replay_graph,
    ),
}


def of(manifest: bundle_pb2.Manifest) -> Task:
    """Return the task of a manifest, which has exactly one."""
    return TASKS[str(manifest.WhichOneof("task"))]
