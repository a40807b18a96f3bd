// Package jobs calls the gateway's job API: one request at a time, without repeating any.
package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"triptych.dev/gateway/internal/apiclient"
)

const (
	mostReply = 256 << 20 // bytes: a job has its result in it
	// LongestPause bounds what a gateway may ask for.
	LongestPause = 2 * time.Minute
	// beyondWait is what a reply may take beyond the time that it waits for its job.
	beyondWait = 15 * time.Second
)

// Client is a tenant of a gateway.
type Client struct {
	url     string
	keyFile string
	http    *http.Client

	mutex sync.Mutex
	key   string // empty: to be read
}

// Job is one, as the gateway tells it.
type Job struct {
	ID, Status string
	Raw        []byte // all of it, in JSON
}

// Failure says of a job without a result what its endpoint has replied, or why it was not asked; 0 and "" where nothing is told.
func (j Job) Failure() (status int, code string) {
	type told struct {
		Code string `json:"code"`
	}
	var job struct {
		Error    *told `json:"error"`
		Response *struct {
			Status int `json:"status_code"`
			Body   struct {
				Error told `json:"error"`
			} `json:"body"`
		} `json:"response"`
	}
	if json.Unmarshal(j.Raw, &job) != nil {
		return 0, ""
	}
	if job.Response != nil {
		return job.Response.Status, job.Response.Body.Error.Code
	}
	if job.Error != nil {
		return 0, job.Error.Code
	}
	return 0, ""
}

// StatusCompleted is that of a job with a result.
const StatusCompleted = "completed"

// Ended reports whether the job's status is its last.
func (j Job) Ended() bool {
	switch j.Status {
	case StatusCompleted, "failed", "cancelled", "expired":
		return true
	default:
		return false
	}
}

// ErrReply is a reply that breaks the contract.
var ErrReply = errors.New("the gateway's reply makes no sense")

// Refusal is a reply that is an error.
type Refusal apiclient.Refusal

func (r *Refusal) Error() string {
	return fmt.Sprintf("the gateway says %d %s: %.200s", r.Status, r.Code, r.Message)
}

// InFlight reports whether another request with the same key is being answered.
func (r *Refusal) InFlight() bool { return r.Code == "idempotency_in_flight" }

// Permanent reports whether the same request would be refused again, for what it says. A wrong address or key, or a limit
// of the tenant's, is nothing that the request says.
func (r *Refusal) Permanent() bool {
	switch r.Status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity:
		return r.Code != "" && r.Code != "route_not_found" && !r.InFlight()
	case http.StatusRequestEntityTooLarge:
		return true // also where a proxy says so
	default:
		return false
	}
}

// New returns a client that reads the API key from a file: at once, and again when the gateway does not know it.
func New(address, keyFile string, transport http.RoundTripper) (*Client, error) {
	c := &Client{url: apiclient.Endpoint(address, "jobs"), keyFile: keyFile, http: &http.Client{
		Transport: transport,
		// Whoever redirects a POST is not the gateway.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	_, err := c.authorization()
	return c, err
}

// Create has a job made of a request's body, once for a key.
func (c *Client) Create(ctx context.Context, key string, body []byte) (Job, error) {
	return c.do(ctx, http.MethodPost, c.url, key, body, beyondWait)
}

// Await returns a job once it has ended, or the time is over.
func (c *Client) Await(ctx context.Context, id string, wait time.Duration) (Job, error) {
	address := fmt.Sprintf("%s/%s?wait=%d", c.url, url.PathEscape(id), int(wait.Seconds()))
	return c.do(ctx, http.MethodGet, address, "", nil, wait+beyondWait)
}

func (c *Client) do(ctx context.Context, method, address, key string, content []byte, most time.Duration) (Job, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(content))
	if err != nil {
		return Job{}, err
	}
	secret, err := c.authorization()
	if err != nil {
		return Job{}, err
	}
	request.Header.Set("Authorization", "Bearer "+secret)
	if content != nil {
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return Job{}, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode < 200 || response.StatusCode > 299 {
		if response.StatusCode == http.StatusUnauthorized {
			c.forget()
		}
		return Job{}, (*Refusal)(apiclient.ReadRefusal(response, LongestPause))
	}
	raw, err := io.ReadAll(io.LimitReader(response.Body, mostReply+1))
	if err != nil {
		return Job{}, err
	}
	return decode(raw)
}

func decode(raw []byte) (Job, error) {
	var told struct {
		ID     string `json:"id"`
		Status string `json:"status"`
	}
	if len(raw) > mostReply {
		return Job{}, fmt.Errorf("%w: it has more than %d bytes", ErrReply, mostReply)
	}
	if err := json.Unmarshal(raw, &told); err != nil {
		return Job{}, fmt.Errorf("%w: %w", ErrReply, err)
	}
	if told.ID == "" || told.Status == "" {
		return Job{}, fmt.Errorf("%w: it is no job", ErrReply)
	}
	return Job{told.ID, told.Status, raw}, nil
}

func (c *Client) authorization() (string, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.key == "" {
		content, err := os.ReadFile(c.keyFile)
		if err != nil {
			return "", fmt.Errorf("api-key-file: %w", err)
		}
		key := strings.TrimSpace(string(content))
		if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", fmt.Errorf("api-key-file: %s must have one key of visible ASCII", c.keyFile)
		}
		c.key = key
	}
	return c.key, nil
}

func (c *Client) forget() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.key = ""
}
