package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

func dialEngine(t *testing.T) *grpc.ClientConn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stopping := make(chan struct{})
	server := newServer(stopping)
	go func() { _ = server.Serve(listener) }()
	connection, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = connection.Close()
		close(stopping)
		server.Stop()
	})
	return connection
}

// The gateway refuses replies that do not fit their request.
func TestRepliesFitTheirRequests(t *testing.T) {
	client := inferencev1.NewInferenceServiceClient(dialEngine(t))
	inputs := []*inferencev1.EmbedInput{{}, {}, {}}
	embedded, err := client.Embed(t.Context(), &inferencev1.EmbedRequest{Inputs: inputs})
	if err != nil || len(embedded.GetEmbeddings()) != len(inputs)*4*testkit.Dimensions || len(embedded.GetTokenCounts()) != len(inputs) {
		t.Errorf("got %d bytes, %v tokens, %v", len(embedded.GetEmbeddings()), embedded.GetTokenCounts(), err)
	}
	classified, err := client.Classify(t.Context(), &inferencev1.ClassifyRequest{Texts: []string{"a", "b"}})
	if err != nil || len(classified.GetClassifications()) != 2 || len(classified.GetTokenCounts()) != 2 {
		t.Errorf("got %v, %v", classified, err)
	}
	tokenized, err := client.Tokenize(t.Context(), &inferencev1.TokenizeRequest{Texts: []string{"a"}, CountsOnly: true})
	if err != nil || tokenized.GetTexts()[0].GetTokenCount() != tokensPerInput || tokenized.GetTexts()[0].GetIds() != nil {
		t.Errorf("got %v, %v", tokenized, err)
	}
}

func TestLoadIsToldOfEveryModel(t *testing.T) {
	connection := dialEngine(t)
	listed, err := inferencev1.NewModelServiceClient(connection).ListModels(t.Context(), &inferencev1.ListModelsRequest{})
	if err != nil || len(listed.GetModels()) != len(models) {
		t.Fatalf("got %v, %v", listed, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := inferencev1.NewModelServiceClient(connection).WatchLoad(ctx, &inferencev1.WatchLoadRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if said, err := stream.Recv(); err != nil || len(said.GetModels()) != len(models) {
		t.Errorf("got %v, %v", said, err)
	}
}

func TestPlainProxyHandsOn(t *testing.T) {
	behind := httptest.NewServer(routes())
	defer behind.Close()
	target, err := url.Parse(behind.URL)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(newFront(target))
	defer front.Close()
	reply, err := http.Post(front.URL+"/v1/embeddings", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	var read struct{ Data []struct{ Embedding []byte } }
	if err == nil {
		err = json.Unmarshal(body, &read)
	}
	if err != nil || len(read.Data) != 1 || len(read.Data[0].Embedding) != 4*testkit.Dimensions {
		t.Errorf("got %s, %v", body, err)
	}
}
