# The model bundles: exported and checked when the image is built, put into the models volume when it runs.
# Build context: the repository's root.
FROM python:3.11.7-slim-bookworm
WORKDIR /src
ENV PYTHONPATH=/src PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp ORT_DISABLE_TELEMETRY=1
COPY python-research/requirements.txt ./
ARG PIP_INDEX_URL
RUN --mount=type=cache,target=/cache pip install --quiet --cache-dir /cache/pip --root-user-action ignore --require-hashes -r requirements.txt
COPY python-research/src ./
# A clone may have been made with a umask that leaves files to their owner alone.
RUN chmod -R a+rX .
RUN --mount=type=cache,target=/cache python -m triptych_research --models /bundles export --cache /cache/wheels
COPY LICENSE NOTICE /usr/share/doc/triptych/
# A new named volume takes the owner of the folder that it is mounted on.
RUN install -d -o 65532 -g 65532 /models
USER 65532:65532
ENTRYPOINT ["python", "-m", "triptych_research", "--models", "/models"]
CMD ["import", "/bundles"]
