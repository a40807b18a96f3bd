"""A hot path that says that it serves while it answers no call for vectors. A real one behind it does the work."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

# Calls at a time, and the gateway's open streams.
THREADS = 64
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
STREAMED = ("WatchLoad",)


class LyingHotpath(grpc.GenericRpcHandler):
    """Passes bytes on as they are."""

    def __init__(self, target: str) -> None:
        self._answers = threading.Event()
        self._answers.set()
        self._channel = grpc.insecure_channel(target, options=UNLIMITED)
        self._server = grpc.server(ThreadPoolExecutor(THREADS), handlers=[self], options=UNLIMITED)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def lie(self) -> None:
        """Take calls for vectors from now on, and never answer them."""
        self._answers.clear()

    def repent(self) -> None:
        self._answers.set()

    def stop(self) -> None:
        self.repent()
        self._server.stop(grace=None).wait()
        self._channel.close()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        method = handler_call_details.method
        if method.endswith(STREAMED):
            return grpc.unary_stream_rpc_method_handler(lambda request, context: self._stream(method, request, context))
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._ask(method, request, context))

    def _ask(self, method: str, request: bytes, context: grpc.ServicerContext) -> Any:
        while method.endswith("/Embed") and not self._answers.wait(0.05) and context.is_active():
            pass
        try:
            return self._channel.unary_unary(method, bytes, bytes)(request, timeout=context.time_remaining())
        except grpc.RpcError as error:
            self._refuse(error, context)

    def _stream(self, method: str, request: bytes, context: grpc.ServicerContext) -> Iterator[Any]:
        replies = self._channel.unary_stream(method, bytes, bytes)(request)

        def ended() -> None:
            replies.cancel()

        context.add_callback(ended)
        try:
            yield from replies
        except grpc.RpcError as error:
            self._refuse(error, context)

    @staticmethod
    def _refuse(error: Any, context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata(error.trailing_metadata() or ())
        context.abort(error.code(), error.details())
