# The gateway: one static binary in an empty image. Build context: the repository's root.
FROM golang:1.26-bookworm AS build
WORKDIR /src/go-gateway
ENV GOMODCACHE=/cache/modules GOCACHE=/cache/build CGO_ENABLED=0
COPY go-gateway/go.mod go-gateway/go.sum ./
RUN --mount=type=cache,target=/cache go mod download
COPY go-gateway ./
RUN --mount=type=cache,target=/cache go build -trimpath -ldflags="-s -w" -o /gateway ./cmd/gateway
# A new named volume takes the owner of the folder that it is mounted on.
RUN install -d -o 65532 -g 65532 /data

FROM scratch
COPY --from=build /gateway /gateway
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532
ENTRYPOINT ["/gateway"]
CMD ["serve"]
