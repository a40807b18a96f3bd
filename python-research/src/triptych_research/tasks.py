"""What a bundle of each task must hold beside files and graphs: the fields of its manifest, and its golden cases.

`bundle` reads and writes; what a task's numbers mean is said here, one entry for each task.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych.bundle.v1 import bundle_pb2
from triptych_research.classification import golden as classification_golden
from triptych_research.classification.encoders import TextEncoder
from triptych_research.decoder import golden as generation_golden
from triptych_research.embedding import golden as embedding_golden

GoldenFile = bundle_pb2.GoldenFile | bundle_pb2.GenerationGoldenFile | bundle_pb2.ClassificationGoldenFile


@dataclass(frozen=True)
class Task:
    """How bundles of one task are checked. Functions raise GoldenError, whose message names the field."""

    golden_type: type[GoldenFile]
    manifest_checks: Callable[[bundle_pb2.Manifest], Mapping[str, bool]]  # by field, whether it is as it must be
    count_cases: Callable[[Any], int]
    check_cases: Callable[[bundle_pb2.Manifest, Any, Any], None]  # with its Tokenizer, if it has one; nothing runs
    # Folder, …, which of the graphs, and for a head its encoder's graphs.
    replay: Callable[[pathlib.Path, bundle_pb2.Manifest, Any, int, Sequence[TextEncoder]], None]


# By the name of the manifest's field.
TASKS: Mapping[str, Task] = {
    "embedding": Task(
        golden_type=bundle_pb2.GoldenFile,
        manifest_checks=embedding_golden.manifest_checks,
        count_cases=lambda file: len(file.embeddings),
        check_cases=embedding_golden.check_cases,
        replay=lambda folder, manifest, cases, index, _: embedding_golden.replay_graph(folder, manifest, cases, index),
    ),
    "generation": Task(
        golden_type=bundle_pb2.GenerationGoldenFile,
        manifest_checks=generation_golden.manifest_checks,
        count_cases=lambda file: len(file.generations),
        check_cases=generation_golden.check_cases,
        replay=lambda folder, manifest, cases, index, _: generation_golden.replay_graph(folder, manifest, cases, index),
    ),
    "classification": Task(
        golden_type=bundle_pb2.ClassificationGoldenFile,
        manifest_checks=classification_golden.manifest_checks,
        count_cases=lambda file: len(file.classifications),
        check_cases=lambda manifest, cases, _: classification_golden.check_cases(manifest, cases),
        replay=classification_golden.replay_graph,
    ),
}


def of(manifest: bundle_pb2.Manifest) -> Task:
    """Return the task of a manifest, which has exactly one."""
    return TASKS[str(manifest.WhichOneof("task"))]
