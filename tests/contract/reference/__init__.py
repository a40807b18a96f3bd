"""The contract in Python: the same gRPC services as the hot path, from grpcio, tokenizers and onnxruntime.

It is the oracle of the contract tests, written to be read: no scheduler, no queue, no reload. It must not share code
with the hot path or the gateway; bundles it reads through the research package, whose format they are.
"""
