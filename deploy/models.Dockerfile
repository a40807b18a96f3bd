# The model bundles: exported and checked when the image is built, put into the models volume when it runs.
# Build context: the repository's root.
FROM rust:1.95.0-bookworm AS build
WORKDIR /src/rust-hotpath
ENV CARGO_HOME=/cache/cargo CARGO_TARGET_DIR=/cache/target
COPY rust-hotpath ./
RUN --mount=type=cache,target=/cache cargo build --release --locked --package hotpath-kernels-ort \
    && cp /cache/target/release/libhotpath_kernels_ort.so /kernels.so
COPY deploy/licenses.sh /
RUN --mount=type=cache,target=/cache /licenses.sh rust /licenses hotpath-kernels-ort

FROM python:3.11.7-slim-bookworm
WORKDIR /src
ENV PYTHONPATH=/src PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp ORT_DISABLE_TELEMETRY=1
COPY python-research/requirements.txt ./
ARG PIP_INDEX_URL
RUN --mount=type=cache,target=/cache pip install --quiet --cache-dir /cache/pip --root-user-action ignore --require-hashes -r requirements.txt
# The operators that our graphs are made of: the same crate as the hot path links.
COPY --from=build /kernels.so /usr/local/lib/libhotpath_kernels_ort.so
ENV TRIPTYCH_KERNELS=/usr/local/lib/libhotpath_kernels_ort.so
COPY python-research/src ./
# A clone may have been made with a umask that leaves files to their owner alone.
RUN chmod -R a+rX .
RUN --mount=type=cache,target=/cache python -m triptych_research --models /bundles export --cache /cache/wheels
COPY LICENSE NOTICE /usr/share/doc/triptych/
COPY --from=build /licenses /usr/share/doc/triptych/linked
# A new named volume takes the owner of the folder that it is mounted on.
RUN install -d -o 65532 -g 65532 /models
USER 65532:65532
ENTRYPOINT ["python", "-m", "triptych_research", "--models", "/models"]
CMD ["import", "/bundles"]
