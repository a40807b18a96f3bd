package testkit

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// The fake's embedding model, which is the only one that it lists unless told otherwise.
const (
	ModelName      = "all-minilm-l6-v2"
	ModelRevision  = "0123456789abcdef"
	Dimensions     = 384
	MaxTokens      = 256
	MaxInputs      = 2048
	VocabularySize = 30522
)

type (
	// EmbedFunc answers Embed.
	EmbedFunc func(context.Context, *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error)
	// Call is one call that the fake got: one of the requests.
	Call struct {
		Metadata metadata.MD
		Embed    *inferencev1.EmbedRequest
		Generate *inferencev1.GenerateRequest
		Classify *inferencev1.ClassifyRequest
	}
)

func (c Call) canary() bool { return IsCanary(c.Embed) && IsCanary(c.Generate) && IsCanary(c.Classify) }

// maxMessageBytes is the real one's default.
const maxMessageBytes = 16 << 20

// Hotpath is a hot path without models: it keeps the contract's rules, and its vectors are hashes of the inputs.
type Hotpath struct {
	inferencev1.UnimplementedInferenceServiceServer
	inferencev1.UnimplementedModelServiceServer

	Address string
	server  *grpc.Server
	stopped chan struct{} // closed by Drain
	drain   sync.Once

	mu       sync.Mutex
	embed    EmbedFunc
	generate GenerateFunc
	classify ClassifyFunc
	tokenize func(*inferencev1.TokenizeRequest) *inferencev1.TokenizeResponse
	list     func(context.Context) error
	models   []*inferencev1.Model
	load     []*inferencev1.ModelLoad
	calls    []Call
}

// StartHotpath starts a fake on an address, as in "127.0.0.1:0", and stops it when the test ends.
func StartHotpath(t testing.TB, address string, options ...grpc.ServerOption) *Hotpath {
	t.Helper()
	network, scheme := "tcp", ""
	if path, isSocket := strings.CutPrefix(address, "unix:"); isSocket {
		network, scheme, address = "unix", "unix:", path
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	h := &Hotpath{
		Address: scheme + listener.Addr().String(), models: []*inferencev1.Model{Model()}, stopped: make(chan struct{}),
		server: grpc.NewServer(append(options, grpc.MaxRecvMsgSize(maxMessageBytes),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second}))...),
	}
	inferencev1.RegisterInferenceServiceServer(h.server, h)
	inferencev1.RegisterModelServiceServer(h.server, h)
	go func() { _ = h.server.Serve(listener) }()
	t.Cleanup(h.server.Stop)
	return h
}

// Stop ends the fake at once, and all calls in it: a crash.
func (h *Hotpath) Stop() { h.server.Stop() }

// Drain has the fake take no new work, and finish what it has: the first part of SIGTERM, which may take long.
func (h *Hotpath) Drain() { h.drain.Do(func() { close(h.stopped) }) }

// GracefulStop ends the fake when its calls are done: SIGTERM.
func (h *Hotpath) GracefulStop() {
	h.Drain()
	h.server.GracefulStop()
}

// SetEmbed replaces the answer to Embed; nil brings the usual one back.
func (h *Hotpath) SetEmbed(embed EmbedFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.embed = embed
}

// SetTokenize replaces the answer to Tokenize; nil brings the usual one back.
func (h *Hotpath) SetTokenize(tokenize func(*inferencev1.TokenizeRequest) *inferencev1.TokenizeResponse) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tokenize = tokenize
}

// SetModels replaces the list of models.
func (h *Hotpath) SetModels(models ...*inferencev1.Model) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.models = models
}

// SetLoad replaces what WatchLoad tells.
func (h *Hotpath) SetLoad(load ...*inferencev1.ModelLoad) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.load = load
}

// SetList makes ListModels do something before it answers, or fail; nil ends that.
func (h *Hotpath) SetList(list func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = list
}

// Block makes Embed wait until release is closed, canaries aside, and tells of each call that began.
func (h *Hotpath) Block() (began <-chan struct{}, release chan<- struct{}) {
	begins, releases := make(chan struct{}, 100), make(chan struct{})
	h.SetEmbed(func(ctx context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		if IsCanary(request) {
			return Embed(ctx, request)
		}
		begins <- struct{}{}
		select {
		case <-releases:
			return Embed(ctx, request)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	return begins, releases
}

// IsCanary tells the gateway's own calls, which come at any moment and have no tenant, from those that a test causes.
func IsCanary(request interface {
	GetScheduling() *inferencev1.Scheduling
}) bool {
	return request.GetScheduling().GetFairnessKey() == ""
}

// Calls returns the calls so far that ran a model, canaries excluded.
func (h *Hotpath) Calls() []Call {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.calls), Call.canary)
}

// Canaries returns how many calls that ran a model were the gateway's own.
func (h *Hotpath) Canaries() int {
	real := len(h.Calls())
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.calls) - real
}

// ListModels implements the contract.
func (h *Hotpath) ListModels(ctx context.Context, _ *inferencev1.ListModelsRequest) (*inferencev1.ListModelsResponse, error) {
	h.mu.Lock()
	list := h.list
	h.mu.Unlock()
	if list != nil {
		if err := list(ctx); err != nil {
			return nil, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return &inferencev1.ListModelsResponse{Models: h.models}, nil
}

// WatchLoad implements the contract, but for telling what is known already.
func (h *Hotpath) WatchLoad(_ *inferencev1.WatchLoadRequest, stream grpc.ServerStreamingServer[inferencev1.WatchLoadResponse]) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-h.stopped: // before anything is told
			return nil
		default:
		}
		h.mu.Lock()
		reply := &inferencev1.WatchLoadResponse{Models: h.load}
		h.mu.Unlock()
		if err := stream.Send(reply); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-h.stopped:
			return nil
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// Embed implements the contract.
func (h *Hotpath) Embed(ctx context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
	select {
	case <-h.stopped:
		return nil, Refusal(fault.HotpathUnavailable, "", "the hot path is shutting down")
	default:
	}
	carried, _ := metadata.FromIncomingContext(ctx)
	h.mu.Lock()
	h.calls = append(h.calls, Call{Metadata: carried, Embed: request})
	embed := h.embed
	h.mu.Unlock()
	if embed == nil {
		embed = Embed
	}
	return embed(ctx, request)
}

// Tokenize implements the contract; a token is a word.
func (h *Hotpath) Tokenize(_ context.Context, request *inferencev1.TokenizeRequest) (*inferencev1.TokenizeResponse, error) {
	h.mu.Lock()
	answer := h.tokenize
	h.mu.Unlock()
	if answer != nil {
		return answer(request), nil
	}
	if err := checkCommon(request.GetModel(), ModelName, "texts", len(request.GetTexts())); err != nil {
		return nil, err
	}
	reply := &inferencev1.TokenizeResponse{}
	for i, text := range request.GetTexts() {
		if text == "" {
			return nil, refuse(fault.EmptyInput, fmt.Sprintf("texts[%d]", i), "is empty")
		}
		reply.Texts = append(reply.Texts, tokenize(text))
	}
	return reply, nil
}

// Embed is the usual answer to Embed.
func Embed(_ context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
	if err := checkCommon(request.GetModel(), ModelName, "inputs", len(request.GetInputs())); err != nil {
		return nil, err
	}
	if request.GetScheduling().GetPriority() == inferencev1.Priority_PRIORITY_UNSPECIFIED {
		return nil, refuse(fault.MissingField, "scheduling", "is required")
	}
	if wanted := request.GetDimensions(); wanted != 0 && wanted != Dimensions {
		return nil, Refusal(fault.DimensionsUnsupported, "dimensions",
			fmt.Sprintf("the model has vectors of %d dimensions, not %d", Dimensions, wanted))
	}
	reply := &inferencev1.EmbedResponse{
		Revision: ModelRevision, Dimensions: Dimensions,
		Timings: &inferencev1.Timings{
			Tokenize:  durationpb.New(100 * time.Microsecond),
			Queue:     durationpb.New(200 * time.Microsecond),
			Inference: durationpb.New(3 * time.Millisecond),
		},
	}
	for i, input := range request.GetInputs() {
		count, err := checkInput(input, fmt.Sprintf("inputs[%d]", i))
		if err != nil {
			return nil, err
		}
		if count > MaxTokens {
			if !request.GetTruncate() {
				return nil, refuse(fault.InputTooLong, fmt.Sprintf("inputs[%d]", i),
					fmt.Sprintf("has %d tokens, the model takes at most %d", count, MaxTokens), MaxTokens, count)
			}
			count = MaxTokens
			reply.TruncatedInputs = append(reply.TruncatedInputs, uint32(i))
		}
		reply.TokenCounts = append(reply.TokenCounts, uint32(count))
		reply.Embeddings = appendVector(reply.Embeddings, input.String())
	}
	return reply, nil
}

// taskOf says what the models do that the fake knows, listed or not.
var taskOf = map[string]string{ModelName: "embeds", ChatModelName: "generates", ModerationModelName: "classifies"}

func checkModel(model, wanted string) error {
	switch task, known := taskOf[model]; {
	case model == "":
		return refuse(fault.MissingField, "model", "is required")
	case !known:
		return Refusal(fault.ModelNotFound, "model", fmt.Sprintf("there is no model %q", model))
	case model != wanted:
		return Refusal(fault.ModelTaskMismatch, "model", fmt.Sprintf("the model %q %s", model, task))
	default:
		return nil
	}
}

func checkCommon(model, wanted, inputs string, count int) error {
	switch err := checkModel(model, wanted); {
	case err != nil:
		return err
	case count == 0:
		return refuse(fault.EmptyInput, inputs, "is empty")
	case count > MaxInputs:
		return refuse(fault.TooManyInputs, inputs,
			fmt.Sprintf("has %d entries; at most %d are taken", count, MaxInputs), MaxInputs, count)
	default:
		return nil
	}
}

// checkInput returns an input's number of tokens.
func checkInput(input *inferencev1.EmbedInput, field string) (int, error) {
	ids := input.GetTokenIds().GetIds()
	if input.GetText() == "" && len(ids) == 0 {
		return 0, refuse(fault.EmptyInput, field, "is empty")
	}
	for _, id := range ids {
		if id >= VocabularySize {
			return 0, refuse(fault.TokenIDOutOfRange, field,
				fmt.Sprintf("has the token id %d; ids are below %d", id, VocabularySize))
		}
	}
	if len(ids) > 0 {
		return len(ids), nil
	}
	return len(tokenize(input.GetText()).GetIds()), nil
}

func tokenize(text string) *inferencev1.TokenizedText {
	tokens := &inferencev1.TokenizedText{Ids: []uint32{101}, ByteStarts: []uint32{0}, ByteEnds: []uint32{0}}
	end := 0
	for _, word := range strings.Fields(text) {
		start := end + strings.Index(text[end:], word)
		end = start + len(word)
		tokens.Ids = append(tokens.Ids, 1000+uint32(len(word)))
		tokens.ByteStarts = append(tokens.ByteStarts, uint32(start))
		tokens.ByteEnds = append(tokens.ByteEnds, uint32(end))
	}
	tokens.Ids = append(tokens.Ids, 102)
	tokens.ByteStarts = append(tokens.ByteStarts, 0)
	tokens.ByteEnds = append(tokens.ByteEnds, 0)
	tokens.TokenCount = uint32(len(tokens.Ids))
	return tokens
}

func appendVector(vectors []byte, input string) []byte {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(input))
	for range Dimensions {
		_, _ = hash.Write([]byte{0})
		number := float32(hash.Sum32())/math.MaxUint32 - 0.5
		vectors = binary.LittleEndian.AppendUint32(vectors, math.Float32bits(number))
	}
	return vectors
}

// Model is the fake's model as it is listed.
func Model() *inferencev1.Model {
	return &inferencev1.Model{
		Name: ModelName, Task: inferencev1.Task_TASK_EMBEDDING, State: inferencev1.ModelState_MODEL_STATE_READY,
		Revision: ModelRevision, Precision: "block_quantized", Owner: "sentence-transformers", Dimensions: []uint32{Dimensions},
		CreateTime:    timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)),
		Limits:        &inferencev1.Limits{MaxTokens: MaxTokens, MaxInputs: MaxInputs, VocabularySize: VocabularySize},
		StatusMessage: "loaded from /a/path/of/the/operator",
	}
}
