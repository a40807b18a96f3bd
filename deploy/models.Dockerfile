# The model bundles: exported and checked when the image is built, copied into the models volume when it runs.
# Build context: the repository's root.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY python-research/requirements.txt python-research/
RUN --mount=type=cache,target=/root/.cache/pip pip install --require-hashes -r python-research/requirements.txt

FROM debian:bookworm-slim
USER 65532:65532
