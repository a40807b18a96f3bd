# The hot path and the ONNX Runtime library that it loads. Build context: the repository's root.
FROM python:3.11.7-slim-bookworm AS onnxruntime
WORKDIR /onnxruntime
COPY python-research/requirements.txt ./
ARG PIP_INDEX_URL
# The wheel that Python checked the bundles with, by version and hash: both panels run the same library.
RUN sed -n '/^onnxruntime==/,/[^\\]$/p' requirements.txt > wheel.txt \
    && pip download --quiet --no-deps --require-hashes --only-binary :all: -r wheel.txt -d wheel \
    && python -m zipfile -e wheel/*.whl files

FROM rust:1.95.0-bookworm AS build
WORKDIR /src/rust-hotpath
ENV CARGO_HOME=/cache/cargo CARGO_TARGET_DIR=/cache/target
COPY proto ../proto
COPY rust-hotpath ./
RUN --mount=type=cache,target=/cache cargo build --release --locked --bin hotpath && cp /cache/target/release/hotpath /hotpath
COPY LICENSE deploy/licenses.sh /
RUN --mount=type=cache,target=/cache /licenses.sh rust /licenses hotpath-server

FROM debian:bookworm-slim
COPY --from=onnxruntime /onnxruntime/files/onnxruntime/capi/libonnxruntime.so.* /usr/local/lib/libonnxruntime.so
COPY --from=onnxruntime /onnxruntime/files/onnxruntime/LICENSE /onnxruntime/files/onnxruntime/ThirdPartyNotices.txt /usr/share/doc/onnxruntime/
COPY LICENSE NOTICE /usr/share/doc/triptych/
COPY --from=build /licenses /usr/share/doc/triptych/linked
COPY --from=build /hotpath /hotpath
ENV HOTPATH_ONNXRUNTIME_LIBRARY=/usr/local/lib/libonnxruntime.so
USER 65532:65532
ENTRYPOINT ["/hotpath"]
CMD ["serve"]
