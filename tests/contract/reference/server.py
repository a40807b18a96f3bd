"""Serve the reference: `python -m contract.reference.server --models models --listen 127.0.0.1:50051`."""

import argparse
import json
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from triptych.inference.v1 import inference_pb2, inference_pb2_grpc, model_pb2, model_pb2_grpc
from triptych_research import bundle
from triptych_research.store import Store

from contract.reference.classifier import Classifier
from contract.reference.generator import Generator
from contract.reference.model import Embedder, Model
from contract.reference.service import InferenceService, ModelService

# Calls that may be open at once: they mostly wait for a run. More wait in grpcio's queue.
CALL_THREADS = 64
SERVICES = [
    inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name,
    model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    health.SERVICE_NAME,
]
REFLECTION = "grpc.reflection.v1.ServerReflection"


def load_models(folder: pathlib.Path, pool: ThreadPoolExecutor) -> dict[str, Model]:
    """Load the current revision of every model in the folder; heads after the encoders that they need.

    Bundles are read strictly and not replayed: that took place when they were promoted, and would take half a minute.
    """
    store = Store(folder)
    paths = [store.path(name, current.revision) for name in store.names() if (current := store.current(name))]
    found = [bundle.read(path) for path in paths]
    models: dict[str, Model] = {}
    for each in sorted(found, key=lambda each: each.manifest.HasField("classification")):
        models[each.manifest.name] = load(each, models, pool)
    return models


def load(found: bundle.Bundle, others: Mapping[str, Model], pool: ThreadPoolExecutor) -> Model:
    """Load a bundle. The encoder of a head is among the others."""
    if found.manifest.HasField("generation"):
        return Generator(found)
    if found.manifest.HasField("embedding"):
        return Embedder(found, pool)
    task = found.manifest.classification
    encoder = others.get(task.encoder)
    if not isinstance(encoder, Embedder) or encoder.bundle.manifest.source.sha256 != task.encoder_sha256:
        raise SystemExit(f"{found.manifest.name}: {task.encoder} of source {task.encoder_sha256} is not there")
    return Classifier(found, encoder)


def add_health(server: grpc.Server, models: dict[str, Model]) -> None:
    servicer = health.HealthServicer()
    for service in ("", *(f"model/{name}" for name in models)):
        servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)


def add_reflection(server: grpc.Server) -> None:
    """Reflection v1. grpcio has v1alpha alone, whose messages are the same on the wire."""
    handler = grpc.stream_stream_rpc_method_handler(
        reflection.ReflectionServicer(service_names=[*SERVICES, REFLECTION]).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    methods = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(REFLECTION, methods)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=pathlib.Path, required=True, help="folder of bundles")
    parser.add_argument("--listen", default="127.0.0.1:50051", help="address; port 0 takes a free one")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="inferences that run at once")
    arguments = parser.parse_args()
    runs = ThreadPoolExecutor(arguments.threads, thread_name_prefix="run")
    models = load_models(arguments.models, runs)
    stop = threading.Event()
    server = grpc.server(ThreadPoolExecutor(CALL_THREADS, thread_name_prefix="call"))
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(InferenceService(models), server)
    model_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(models, stop), server)
    add_health(server, models)
    add_reflection(server)
    port = server.add_insecure_port(arguments.listen)
    server.start()
    address = f"{arguments.listen.rpartition(':')[0]}:{port}"
    print(json.dumps({"message": "listening", "listener": "grpc", "address": address}), file=sys.stderr, flush=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    server.stop(grace=10).wait()


if __name__ == "__main__":
    main()
