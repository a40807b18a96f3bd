# The gateway: one static binary in an image that is empty but for certificates. Build context: the repository's root.
FROM golang:1.26.8-bookworm AS build
WORKDIR /src/go-gateway
ENV GOMODCACHE=/cache/modules GOCACHE=/cache/build CGO_ENABLED=0
COPY go-gateway/go.mod go-gateway/go.sum ./
# Behind a mirror: where modules come from, and who vouches for them.
ARG GOPROXY GOSUMDB
RUN --mount=type=cache,target=/cache go mod download
COPY go-gateway ./
ARG VERSION=unknown REVISION=unknown
RUN --mount=type=cache,target=/cache telemetry=$(go list ./internal/telemetry) && go build -trimpath -tags timetzdata \
    -ldflags="-s -w -X $telemetry.version=$VERSION -X $telemetry.revision=$REVISION" -o /gateway ./cmd/gateway
COPY deploy/licenses.sh /
RUN --mount=type=cache,target=/cache /licenses.sh go /licenses ./cmd/gateway
# A new named volume takes the owner of the folder that it is mounted on.
RUN install -d -m 700 -o 65532 -g 65532 /data /keys

FROM scratch
# Whom to trust when it calls out over TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY LICENSE NOTICE /usr/share/doc/triptych/
COPY --from=build /licenses /usr/share/doc/triptych/linked
COPY --from=build /gateway /gateway
COPY --from=build --chown=65532:65532 /data /data
COPY --from=build --chown=65532:65532 /keys /keys
USER 65532:65532
ENTRYPOINT ["/gateway"]
CMD ["serve"]
