package live

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

type models struct {
	inferencev1.UnimplementedModelServiceServer
}

func (models) ListModels(context.Context, *inferencev1.ListModelsRequest) (*inferencev1.ListModelsResponse, error) {
	return &inferencev1.ListModelsResponse{Models: []*inferencev1.Model{{Name: "other", Revision: "x"}, {Name: "m", Revision: "abc"}}}, nil
}

func TestHotPathsAreAskedAtAddressesOfBothKinds(t *testing.T) {
	metrics := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if request.URL.Path != "/metrics" {
			http.NotFound(w, request)
		}
		_, _ = w.Write([]byte(text))
	}))
	defer metrics.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	inferencev1.RegisterModelServiceServer(server, models{})
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	for _, c := range []struct{ ip, host string }{{"10.1.2.3", "10.1.2.3"}, {"2001:db8::7", "[2001:db8::7]"}, {"fd00::1", "[fd00::1]"}} {
		pod := map[string]string{c.host + ":9465": strings.TrimPrefix(metrics.URL, "http://"), c.host + ":50051": listener.Addr().String()}
		reader := Reader{dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			here, is := pod[address]
			if !is {
				t.Errorf("%s: %s is asked", c.ip, address)
			}
			return new(net.Dialer).DialContext(ctx, network, here)
		}}
		if got, err := reader.Figures(t.Context(), c.ip, "m"); err != nil || got.Requests != 100 {
			t.Errorf("%s: %+v, %v", c.ip, got, err)
		}
		if got, err := reader.Revision(t.Context(), c.ip, "m"); err != nil || got != "abc" {
			t.Errorf("%s: revision %q, %v", c.ip, got, err)
		}
	}
}

func TestWhoDoesNotAnswerIsNoHotPath(t *testing.T) {
	reader := Reader{dial: func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }}
	if _, err := reader.Figures(t.Context(), "fd00::1", "m"); err == nil || !strings.Contains(err.Error(), "http://[fd00::1]:9465/metrics") {
		t.Errorf("%v", err)
	}
	if _, err := reader.Revision(t.Context(), "fd00::1", "m"); err == nil || !strings.Contains(err.Error(), "fd00::1") {
		t.Errorf("%v", err)
	}
}
