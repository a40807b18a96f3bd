package adminapi

import (
	"bytes"
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
	address string
	token   func() (string, error)
	http    http.Client
}

// NewClient returns a client of the gateway whose admin API is at "host:port". Close must be called in the end.
func NewClient(address, token string) *Client {
	return NewClientWith(address, func() (string, error) { return token, nil })
}

// NewClientWith is NewClient for a token that changes: it is asked for at each request.
func NewClientWith(address string, token func() (string, error)) *Client {
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
	Code    string // one of docs/errors.md; empty where what answers is no gateway
	Param   string // the field that is meant, if one is
	Message string
}

func (e RefusedError) Error() string { return e.Message }

func (c *Client) get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	return c.ask(ctx, http.MethodGet, path, query, nil, "")
}

// ask returns the reply to a question, or the gateway's own words for why there is none. once is its Idempotency-Key; empty:
// none.
func (c *Client) ask(ctx context.Context, method, path string, query url.Values, body []byte, once string) ([]byte, error) {
	at := url.URL{Scheme: "http", Host: c.address, Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	token, err := c.token()
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if once != "" {
		request.Header.Set("Idempotency-Key", once)
	}
	reply, err := c.http.Do(request)
	if err != nil {
		if because := errors.Unwrap(err); because != nil { // what is around it repeats the URL
			err = because
		}
		return nil, fmt.Errorf("no gateway answers at the admin address %s: %w", c.address, err)
	}
	defer reply.Body.Close()
	said, err := io.ReadAll(io.LimitReader(reply.Body, maxReply))
	if err != nil {
		return nil, fmt.Errorf("the gateway at the admin address %s ended in its answer: %w", c.address, err)
	}
	if reply.StatusCode == http.StatusOK {
		return said, nil
	}
	return nil, refusal(reply, said, c.address)
}

// refusal is what a reply says that is none.
func refusal(reply *http.Response, body []byte, address string) RefusedError {
	var said struct {
		Error struct {
			Code    string `json:"code"`
			Param   string `json:"param"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &said) != nil || said.Error.Message == "" {
		return RefusedError{Status: reply.StatusCode, Message: fmt.Sprintf("what answers at %s is no admin API of a gateway: %s", address, reply.Status)}
	}
	return RefusedError{Status: reply.StatusCode, Code: said.Error.Code, Param: said.Error.Param, Message: said.Error.Message}
}
