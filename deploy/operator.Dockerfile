# The operator of Kubernetes: one static binary in an image that is empty but for certificates. Build context: the repository's root.
FROM golang:1.26.8-bookworm AS build
WORKDIR /src/go-gateway/cmd/operator
ENV GOMODCACHE=/cache/modules GOCACHE=/cache/build CGO_ENABLED=0
# It is a module of its own, which uses that of the gateway.
COPY go-gateway/go.mod go-gateway/go.sum /src/go-gateway/
COPY go-gateway/cmd/operator/go.mod go-gateway/cmd/operator/go.sum ./
# Behind a mirror: where modules come from, and who vouches for them.
ARG GOPROXY GOSUMDB
RUN --mount=type=cache,target=/cache go mod download
COPY go-gateway /src/go-gateway
RUN --mount=type=cache,target=/cache go build -trimpath -ldflags="-s -w" -o /operator .
COPY deploy/licenses.sh /
RUN --mount=type=cache,target=/cache /licenses.sh go /licenses .

FROM scratch
# Whom to trust when it calls out over TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY LICENSE NOTICE /usr/share/doc/triptych/
COPY --from=build /licenses /usr/share/doc/triptych/linked
COPY --from=build /operator /operator
USER 65532:65532
ENTRYPOINT ["/operator"]
