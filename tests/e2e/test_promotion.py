"""A new revision takes over while requests run, and goes back."""

import pathlib
import subprocess
import time
from collections.abc import Callable

import grpc
import pytest
from triptych.inference.v1 import model_pb2
from triptych.inference.v1.model_pb2_grpc import ModelServiceStub

from e2e import bundles
from e2e.load import Load
from e2e.vectors import MODEL
from stack.description import ROOT
from stack.native import NativeStack
from stack.waiting import wait_until

COMMAND = ROOT / ".venv/bin/triptych-models"
# `current` is looked at every second; then the new graph is loaded and checked, while the old one serves at full load.
TAKE_OVER_LIMIT_S = 60


@pytest.fixture
def models(tmp_path: pathlib.Path) -> pathlib.Path:
    """A models folder of one's own."""
    return bundles.copy_current(tmp_path / "models")


def command(models: pathlib.Path, *arguments: str) -> None:
    subprocess.run([COMMAND, "--models", models, *arguments], check=True, capture_output=True)


def test_promote_and_roll_back_under_load(start_native: Callable[..., NativeStack], models: pathlib.Path) -> None:
    native = start_native(models=models)
    first, second = described(native).revision, bundles.add_revision(models)
    with Load(native.describe()) as load:
        for step, expected in ((("promote", MODEL, second), second), (("rollback", MODEL), first)):
            command(models, *step)
            wait_until(step[0], lambda expected=expected: described(native).revision == expected, TAKE_OVER_LIMIT_S)  # type: ignore[misc]
            load.wait_for(200, 20, since=time.monotonic())
    assert load.statuses() == {200}
    assert first != second


def test_a_damaged_revision_is_refused_and_the_old_one_serves(
    start_native: Callable[..., NativeStack], models: pathlib.Path
) -> None:
    native = start_native(models=models)
    first, second = described(native).revision, bundles.add_revision(models)
    bundles.damage(models, second)
    bundles.switch(models, second, first)
    with Load(native.describe()) as load:
        model = wait_until(
            "the refusal", lambda: model if (model := described(native)).status_message else None, TAKE_OVER_LIMIT_S
        )
        load.wait_for(200, 20, since=time.monotonic())
    assert load.statuses() == {200}
    assert (model.revision, model.state) == (first, model_pb2.MODEL_STATE_READY)
    assert "tokenizer.json" in model.status_message


def described(native: NativeStack) -> model_pb2.Model:
    """The model as the hot path tells of it."""
    with grpc.insecure_channel(native.addresses["grpc"]) as channel:
        (model,) = ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest(), timeout=10).models
        assert isinstance(model, model_pb2.Model)
        return model
