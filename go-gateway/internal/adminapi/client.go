package adminapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"
)

const (
	// clientTimeout is longer than the gateway gives its store.
	clientTimeout = 15 * time.Second
	// maxReply is beyond the largest page.
	maxReply = 8 << 20
)

// Client asks the admin API of one gateway.
type Client struct {
	address, token string
	http           http.Client
}

// NewClient returns a client of the gateway whose admin API is at "host:port". Close must be called in the end.
func NewClient(address, token string) *Client {
	// Without a proxy: the token is for the gateway alone, which is near.
	return &Client{address: address, token: token, http: http.Client{Timeout: clientTimeout, Transport: &http.Transport{}}}
}

// Close ends the client's connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Limits returns the limits of a tenant, and of one of its keys, or of whoever has tokens of a subject, unless that is
// empty; and the reply as it came.
func (c *Client) Limits(ctx context.Context, tenant, key, subject string) (limits Limits, reply []byte, err error) {
	query := url.Values{"tenant": {tenant}}
	if key != "" {
		query.Set("key", key)
	}
	if subject != "" {
		query.Set("subject", subject)
	}
	reply, err = c.get(ctx, LimitsPath, query)
	if err == nil {
		err = json.Unmarshal(reply, &limits)
	}
	return limits, reply, err
}

// Overview returns how the gateway is.
func (c *Client) Overview(ctx context.Context) (overview Overview, err error) {
	reply, err := c.get(ctx, OverviewPath, nil)
	if err == nil {
		err = json.Unmarshal(reply, &overview)
	}
	return overview, err
}

// RefusedError is what a gateway says to a question that it does not answer.
type RefusedError struct {
	Status  int
	Message string
}

func (e RefusedError) Error() string { return e.Message }

// get returns the reply to a question, or the gateway's own words for why there is none.
func (c *Client) get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	at := url.URL{Scheme: "http", Host: c.address, Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	reply, err := c.http.Do(request)
	if err != nil {
		if because := errors.Unwrap(err); because != nil { // what is around it repeats the URL
			err = because
		}
		return nil, fmt.Errorf("no gateway answers at the admin address %s: %w", c.address, err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxReply))
	if err != nil {
		return nil, err
	}
	if reply.StatusCode == http.StatusOK {
		return body, nil
	}
	var said struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &said) != nil || said.Error.Message == "" {
		said.Error.Message = fmt.Sprintf("what answers at %s is no admin API of a gateway: %s", c.address, reply.Status)
	}
	return nil, RefusedError{Status: reply.StatusCode, Message: said.Error.Message}
}
