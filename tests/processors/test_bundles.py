"""Tiny bundles, made on one class of processors and served on another.

Graphs and tokenizers are the same files wherever they are made, and so is a whole encoder. So is what a decoder's graph
says; its golden file also has what the NumPy reference says, and there the last bits are that processor's own.
"""

import json
import os
import pathlib
import subprocess
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest
from triptych.inference.v1 import inference_pb2 as pb
from triptych.inference.v1 import model_pb2
from triptych.inference.v1.inference_pb2_grpc import InferenceServiceStub
from triptych.inference.v1.model_pb2_grpc import ModelServiceStub

from processors.classes import Processor, emulated, modules, own
from stack.description import ROOT
from stack.process import Process
from stack.waiting import wait_until

MAKERS = ROOT / "rust-hotpath/crates/testing"
MODELS = ("tiny-decoder", "tiny-encoder")
LIMIT_S = 240  # an emulated processor is some thirty times as slow
ROUNDING = 1e-3  # of the reference's logits, in float32
VECTOR_ROUNDING = 0.03
INTERACTIVE = pb.Scheduling(priority=pb.PRIORITY_INTERACTIVE)

pytestmark = pytest.mark.timeout(2 * LIMIT_S)

Models = pathlib.Path
CLASSES: dict[str, Callable[[], Processor]] = {"own": own, "emulated": emulated}


@pytest.fixture(scope="session", autouse=True)
def asked_for() -> None:
    if "TRIPTYCH_EMULATED" not in os.environ:
        pytest.skip("LOUD: `make test-avx2` and `make test-arm64` say which processor is emulated")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Models]:
    """Folders of models by the class that made them."""
    folders = {}
    for name, processor in CLASSES.items():
        folders[name] = tmp_path_factory.mktemp(name)
        for model in MODELS:
            script = MAKERS / f"{model.replace('-', '_')}.py"
            command = [*processor().python, str(script), str(folders[name] / model)]
            env = {**os.environ, "PYTHONPATH": modules()}
            subprocess.run(command, env=env, check=True, timeout=LIMIT_S)
    return folders


def bundle(models: Models, model: str) -> pathlib.Path:
    revision = json.loads((models / model / "current").read_text())["revision"]
    return models / model / str(revision)


@pytest.mark.parametrize("model", MODELS)
def test_graphs_and_tokenizers_are_the_same_wherever_they_are_made(made: dict[str, Models], model: str) -> None:
    here, there = bundle(made["own"], model), bundle(made["emulated"], model)
    names = {path.name for path in here.iterdir()}
    assert names == {path.name for path in there.iterdir()}
    different = {name for name in names if (here / name).read_bytes() != (there / name).read_bytes()}
    assert different <= ({"golden.json", "bundle.json"} if model == "tiny-decoder" else set())
    manifests = [json.loads((folder / "bundle.json").read_text()) for folder in (here, there)]
    processors = {manifest.get("generation", {}).pop("golden_processor", None) for manifest in manifests}
    assert len(processors) == 2 or "golden.json" not in different, "a manifest says what rounded otherwise"
    for manifest in manifests:
        manifest["files"] = [file for file in manifest["files"] if file["path"] != "golden.json"]
    assert manifests[0] == manifests[1]


def test_a_decoder_s_golden_files_differ_in_the_reference_s_rounding_alone(made: dict[str, Models]) -> None:
    here, there = (json.loads((bundle(made[name], "tiny-decoder") / "golden.json").read_text()) for name in CLASSES)
    for ours, theirs in zip(here["generations"], there["generations"], strict=True):
        a, b = ours.pop("reference"), theirs.pop("reference")
        np.testing.assert_allclose(a["next_token_logits"], b["next_token_logits"], atol=ROUNDING)
        parts = [at for at, (x, y) in enumerate(zip(a["token_ids"], b["token_ids"], strict=True)) if x != y]
        until = parts[0] if parts else len(a["margins"])  # where two words are as likely
        np.testing.assert_allclose(a["margins"][: until + 1], b["margins"][: until + 1], atol=ROUNDING)
    assert here == there  # prompts, and to the last bit what the graph says


class Hotpath:
    """A hot path on some processor, with all models of a folder ready: their golden cases came out."""

    def __init__(self, processor: Processor, models: Models, folder: pathlib.Path) -> None:
        settings = {
            "grpc-address": "127.0.0.1:0",
            "metrics-address": "127.0.0.1:0",
            "models": str(models),
            "model-names": ",".join(MODELS),
            "onnxruntime-library": str(processor.library),
        }
        command = [*processor.hotpath, "serve", *(f"--{flag}={value}" for flag, value in settings.items())]
        self.process = Process(f"hot path on {processor.name}", command, folder / "hotpath.log", {})

    def __enter__(self) -> "Hotpath":
        try:
            self.channel = grpc.insecure_channel(self.process.address("grpc"))
            self.models = {model.name: model for model in wait_until("all models being ready", self.ready, LIMIT_S)}
        except BaseException:
            self.process.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self.process.stop()

    def ready(self) -> list[model_pb2.Model] | None:
        self.process.check_alive()
        reply = ModelServiceStub(self.channel).ListModels(
            model_pb2.ListModelsRequest(), timeout=LIMIT_S, wait_for_ready=True
        )
        for model in reply.models:
            assert model.state != model_pb2.MODEL_STATE_FAILED, model.status_message
        return list(reply.models) if all(m.state == model_pb2.MODEL_STATE_READY for m in reply.models) else None

    def embed(self, text: str) -> np.ndarray:
        request = pb.EmbedRequest(model="tiny-encoder", inputs=[pb.EmbedInput(text=text)], scheduling=INTERACTIVE)
        reply = InferenceServiceStub(self.channel).Embed(request, timeout=LIMIT_S)
        return np.frombuffer(reply.embeddings, "<f4")

    def generate(self, text: str) -> list[int]:
        request = pb.GenerateRequest(model="tiny-decoder", text=text, max_tokens=8, scheduling=INTERACTIVE)
        events = InferenceServiceStub(self.channel).Generate(request, timeout=LIMIT_S)
        return [token.id for event in events for token in event.delta.tokens]


@pytest.fixture(scope="session")
def vector(made: dict[str, Models], tmp_path_factory: pytest.TempPathFactory) -> Iterator[np.ndarray]:
    with Hotpath(own(), made["own"], tmp_path_factory.mktemp("hotpath")) as hotpath:
        yield hotpath.embed("a text")


@pytest.mark.parametrize(("maker", "server"), [("own", "emulated"), ("emulated", "own"), ("emulated", "emulated")])
def test_a_bundle_serves_on_another_processor(
    made: dict[str, Models], vector: np.ndarray, tmp_path: pathlib.Path, maker: str, server: str
) -> None:
    with Hotpath(CLASSES[server](), made[maker], tmp_path) as hotpath:
        for name, model in hotpath.models.items():
            assert model.revision == bundle(made[maker], name).name
            assert model.precision
            assert "processor" in model.precision_reason
        assert np.abs(hotpath.embed("a text") - vector).max() < VECTOR_ROUNDING
        assert hotpath.generate("a text")
