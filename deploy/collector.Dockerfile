# The collector of traces and of usage: one static binary in an image that is empty but for certificates. Build context: the repository's root.
FROM golang:1.26.8-bookworm AS build
WORKDIR /src/go-gateway/cmd/collector
ENV GOMODCACHE=/cache/modules GOCACHE=/cache/build CGO_ENABLED=0
# It is a module of its own, which uses nothing of the gateway.
COPY go-gateway/cmd/collector/go.mod go-gateway/cmd/collector/go.sum ./
# Behind a mirror: where modules come from, and who vouches for them.
ARG GOPROXY GOSUMDB
RUN --mount=type=cache,target=/cache go mod download
COPY go-gateway/cmd/collector ./
RUN --mount=type=cache,target=/cache go build -trimpath -ldflags="-s -w" -o /collector .
COPY deploy/licenses.sh /
RUN --mount=type=cache,target=/cache /licenses.sh go /licenses .
# A new named volume takes the owner of the folder that it is mounted on.
RUN install -d -m 700 -o 65532 -g 65532 /traces

FROM scratch
# Whom to trust when it calls out over TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY LICENSE NOTICE /usr/share/doc/triptych/
COPY --from=build /licenses /usr/share/doc/triptych/linked
COPY --from=build /collector /collector
COPY --from=build --chown=65532:65532 /traces /traces
USER 65532:65532
ENTRYPOINT ["/collector"]
