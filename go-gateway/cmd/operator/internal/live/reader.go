package live

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

const (
	// A hot path answers from memory, in milliseconds.
	timeout = 2 * time.Second
	// A hot path with one model has a description of one.
	maxBytes = 1 << 20

	metricsPort, grpcPort = "9465", "50051"
)

// Reader asks hot paths. Its zero value works.
type Reader struct {
	// dial connects; nil: as net.Dialer does. Addresses of pods are none of a test's machine.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (r Reader) connect(ctx context.Context, network, address string) (net.Conn, error) {
	if r.dial != nil {
		return r.dial(ctx, network, address)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// client has no proxy, and no connections that outlive a pod. Redirects are answers like all others that are not 200.
func (r Reader) client() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DialContext: r.connect},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       timeout,
	}
}

// Figures asks the hot path at an IP address what it has done with a model.
func (r Reader) Figures(ctx context.Context, ip, model string) (Figures, error) {
	url := "http://" + net.JoinHostPort(ip, metricsPort) + "/metrics"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Figures{}, fmt.Errorf("asking for metrics: %w", err)
	}
	request.Header.Set("Accept", "text/plain")
	reply, err := r.client().Do(request)
	if err != nil {
		return Figures{}, fmt.Errorf("asking for metrics: %w", err)
	}
	defer func() { _ = reply.Body.Close() }()
	if reply.StatusCode != http.StatusOK {
		return Figures{}, fmt.Errorf("asking %s for metrics: %s", url, reply.Status)
	}
	return parse(reply.Body, model)
}

// Revision asks the hot path at an IP address which revision of a model it serves; empty if none yet.
func (r Reader) Revision(ctx context.Context, ip, model string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	connection, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(ip, grpcPort),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return r.connect(ctx, "tcp", address) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxBytes)))
	if err != nil {
		return "", fmt.Errorf("asking %s for its models: %w", ip, err)
	}
	defer func() { _ = connection.Close() }()
	listed, err := inferencev1.NewModelServiceClient(connection).ListModels(ctx, &inferencev1.ListModelsRequest{})
	if err != nil {
		return "", fmt.Errorf("asking %s for its models: %w", ip, err)
	}
	for _, one := range listed.GetModels() {
		if one.GetName() == model {
			return one.GetRevision(), nil
		}
	}
	return "", fmt.Errorf("the hot path at %s has no model %s", ip, model)
}
