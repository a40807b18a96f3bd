package main

import (
	"context"
	"encoding/binary"
	"flag"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/durationpb"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

const (
	// maxMessageBytes is the hot path's default.
	maxMessageBytes = 16 << 20
	// tokensPerInput is what every input is said to have: a short text.
	tokensPerInput = 8
	// loadInterval is how often the hot path tells its load at most.
	loadInterval = 250 * time.Millisecond
)

var (
	engineFlags = flag.NewFlagSet("nullengine engine", flag.ContinueOnError)
	grpcAddress = engineFlags.String("grpc", "127.0.0.1:0", "where the contract is served: host:port or unix:path")
	httpAddress = engineFlags.String("http", "127.0.0.1:0", "where OpenAI's form is served, for proxies that speak nothing else")

	models  = []*inferencev1.Model{testkit.Model(), testkit.ModerationModel()}
	timings = &inferencev1.Timings{
		Tokenize: durationpb.New(time.Microsecond), Queue: durationpb.New(time.Microsecond), Inference: durationpb.New(time.Microsecond),
	}
	vector = unitVector()
)

// engine is a hot path that does nothing. It refuses nothing either: the gateway asks for what there is.
type engine struct {
	inferencev1.UnimplementedInferenceServiceServer
	inferencev1.UnimplementedModelServiceServer

	stopping <-chan struct{}
}

// runEngine serves until ctx ends.
func runEngine(ctx context.Context, logger *slog.Logger, arguments []string) error {
	if err := engineFlags.Parse(arguments); err != nil {
		return err
	}
	forGateways, err := listen(logger, "grpc", *grpcAddress)
	if err != nil {
		return err
	}
	forProxies, err := listen(logger, "http", *httpAddress)
	if err != nil {
		return err
	}
	contract := newServer(ctx.Done())
	openAI := newHTTPServer(routes())
	failed := make(chan error, 2)
	go func() { failed <- contract.Serve(forGateways) }()
	go func() { failed <- openAI.Serve(forProxies) }()
	select {
	case <-ctx.Done():
		contract.Stop()
		return openAI.Close()
	case err := <-failed:
		return err
	}
}

// newServer returns one that serves the contract; WatchLoad ends when stopping is closed.
func newServer(stopping <-chan struct{}) *grpc.Server {
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second}))
	served := &engine{stopping: stopping}
	inferencev1.RegisterInferenceServiceServer(server, served)
	inferencev1.RegisterModelServiceServer(server, served)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	return server
}

// newHTTPServer returns one with the bounds that the gateway's has.
func newHTTPServer(handler http.Handler) *http.Server {
	return &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 75 * time.Second}
}

// listen opens an address and says so, in the form that the stack's other services have.
func listen(logger *slog.Logger, name, address string) (net.Listener, error) {
	network, at := "tcp", address
	if path, isSocket := strings.CutPrefix(address, "unix:"); isSocket {
		network, at = "unix", path
	}
	opened, err := net.Listen(network, at)
	if err != nil {
		return nil, err
	}
	if network == "tcp" {
		address = opened.Addr().String()
	}
	logger.Info("listening", "listener", name, "address", address)
	return opened, nil
}

// unitVector has the fake's length.
func unitVector() []byte {
	var bytes []byte
	for i := range testkit.Dimensions {
		component := math.Cos(float64(i)) * math.Sqrt(2.0/testkit.Dimensions)
		bytes = binary.LittleEndian.AppendUint32(bytes, math.Float32bits(float32(component)))
	}
	return bytes
}

// Embed implements the contract.
func (e *engine) Embed(_ context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
	reply := &inferencev1.EmbedResponse{
		Revision: testkit.ModelRevision, Dimensions: testkit.Dimensions, Embeddings: vector, TokenCounts: counts(len(request.GetInputs())), Timings: timings,
	}
	if inputs := len(request.GetInputs()); inputs != 1 {
		reply.Embeddings = make([]byte, 0, inputs*len(vector))
		for range inputs {
			reply.Embeddings = append(reply.Embeddings, vector...)
		}
	}
	return reply, nil
}

// Classify implements the contract.
func (e *engine) Classify(_ context.Context, request *inferencev1.ClassifyRequest) (*inferencev1.ClassifyResponse, error) {
	reply := &inferencev1.ClassifyResponse{
		Revision: testkit.ModelRevision, Labels: []*inferencev1.Label{{Name: "hate", Threshold: 0.5}},
		TokenCounts: counts(len(request.GetTexts())), Timings: timings,
	}
	for range request.GetTexts() {
		reply.Classifications = append(reply.Classifications, &inferencev1.Classification{Scores: []float32{0}})
	}
	return reply, nil
}

// Tokenize implements the contract.
func (e *engine) Tokenize(_ context.Context, request *inferencev1.TokenizeRequest) (*inferencev1.TokenizeResponse, error) {
	reply := &inferencev1.TokenizeResponse{}
	for range request.GetTexts() {
		text := &inferencev1.TokenizedText{TokenCount: tokensPerInput}
		if !request.GetCountsOnly() {
			none := make([]uint32, tokensPerInput)
			text.Ids, text.ByteStarts, text.ByteEnds = none, none, none
		}
		reply.Texts = append(reply.Texts, text)
	}
	return reply, nil
}

func counts(inputs int) []uint32 {
	counts := make([]uint32, inputs)
	for i := range counts {
		counts[i] = tokensPerInput
	}
	return counts
}

// ListModels implements the contract.
func (e *engine) ListModels(context.Context, *inferencev1.ListModelsRequest) (*inferencev1.ListModelsResponse, error) {
	return &inferencev1.ListModelsResponse{Models: models}, nil
}

// WatchLoad implements the contract: there is never anything to do.
func (e *engine) WatchLoad(_ *inferencev1.WatchLoadRequest, stream grpc.ServerStreamingServer[inferencev1.WatchLoadResponse]) error {
	reply := &inferencev1.WatchLoadResponse{}
	for _, model := range models {
		reply.Models = append(reply.Models, &inferencev1.ModelLoad{Model: model.GetName(), TokensPerSecond: 1e6})
	}
	ticker := time.NewTicker(loadInterval)
	defer ticker.Stop()
	for {
		if err := stream.Send(reply); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-e.stopping:
			return nil
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}
