// Package api calls a service that has OpenAI's embeddings: one request at a time, without repeating any.
package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/apiclient"
)

// Client is one model of a service.
type Client struct {
	URL   string // as in http://127.0.0.1:8080, with or without /v1
	Key   string
	Model string
	// Revision is that which vectors are wanted of. A reply that does not say its own is taken only if that is Assumed.
	Revision   string
	Assumed    bool
	Dimensions int  // 0: as many as the model gives
	Truncate   bool // texts that are too long, rather than refuse them
	Timeout    time.Duration
	HTTP       *http.Client
}

// revisionHeader is where the gateway says which revision made a reply.
const revisionHeader = "X-Model-Revision"

const mostReply = 256 << 20 // bytes

// Reply is what became of the texts of a request.
type Reply struct {
	Vectors   [][]byte // little-endian float32, in the order of the texts
	Tokens    int64
	Truncated int // texts
}

// Error is a reply that is none.
type Error apiclient.Refusal

func (e *Error) Error() string {
	return fmt.Sprintf("the service says %d %s: %s", e.Status, e.Code, e.Message)
}

// OfTexts reports whether it is about the texts of a request. They are refused, and others may not be.
func (e *Error) OfTexts() bool {
	switch e.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return e.Param == "" || e.Param == "input" || strings.HasPrefix(e.Param, "input[")
	default:
		return false
	}
}

// Busy reports whether the service has no room now and says that it may have later.
func (e *Error) Busy() bool {
	return !e.Never && (e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable)
}

// RevisionError is a reply of another revision than the one that is wanted.
type RevisionError struct{ Wanted, Got string }

func (e *RevisionError) Error() string {
	return fmt.Sprintf("the service has the revision %q now, and had %q", e.Got, e.Wanted)
}

// ErrNoRevision is that of a service that does not say what makes its vectors.
var ErrNoRevision = errors.New("the service does not say which revision of the model makes its vectors: name it with " +
	"--revision, and name another one when the service has another model under this name")

// ErrReply is a reply that breaks the contract.
var ErrReply = errors.New("the service's reply makes no sense")

// Described is what the service says of the model.
type Described struct {
	Revision  string
	MaxInputs int // of one request; 0 if it does not say
}

// Describe asks for the model.
func (c *Client) Describe(ctx context.Context) (Described, error) {
	body, _, err := c.do(ctx, http.MethodGet, apiclient.Endpoint(c.URL, "models/"+url.PathEscape(c.Model)), nil)
	if err != nil {
		return Described{}, err
	}
	return c.readModel(body)
}

func (c *Client) readModel(body []byte) (Described, error) {
	var got struct {
		Revision string `json:"revision"`
		Task     string `json:"task"`
		Limits   struct {
			MaxInputs int `json:"max_inputs"`
		} `json:"limits"`
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return Described{}, fmt.Errorf("%w: %w", ErrReply, err)
	}
	if got.Task != "" && got.Task != "embedding" {
		return Described{}, fmt.Errorf("the model %s does not embed: its task is %q", c.Model, got.Task)
	}
	return Described{got.Revision, max(0, got.Limits.MaxInputs)}, nil
}

type embeddings struct {
	Data []struct {
		Index     int    `json:"index"`
		Embedding []byte `json:"embedding"` // base64
	} `json:"data"`
	Usage struct {
		PromptTokens int64 `json:"prompt_tokens"`
	} `json:"usage"`
	Truncated []int `json:"truncated_inputs"`
}

// Embed asks for the vectors of texts, which are UTF-8.
func (c *Client) Embed(ctx context.Context, texts []string) (Reply, error) {
	body, err := c.request(texts)
	if err != nil {
		return Reply{}, err
	}
	body, header, err := c.do(ctx, http.MethodPost, apiclient.Endpoint(c.URL, "embeddings"), body)
	if err != nil {
		return Reply{}, err
	}
	switch got := header.Get(revisionHeader); {
	case got == "" && !c.Assumed:
		return Reply{}, ErrNoRevision
	case got != "" && got != c.Revision:
		return Reply{}, &RevisionError{c.Revision, got}
	}
	return c.read(body, len(texts))
}

// read takes the vectors of so many texts from the body of a reply.
func (c *Client) read(body []byte, texts int) (Reply, error) {
	var got embeddings
	if err := json.Unmarshal(body, &got); err != nil {
		return Reply{}, fmt.Errorf("%w: %w", ErrReply, err)
	}
	if len(got.Data) != texts {
		return Reply{}, fmt.Errorf("%w: %d vectors for %d texts", ErrReply, len(got.Data), texts)
	}
	reply := Reply{Vectors: make([][]byte, texts), Tokens: got.Usage.PromptTokens, Truncated: len(got.Truncated)}
	for _, one := range got.Data {
		if one.Index < 0 || one.Index >= texts || reply.Vectors[one.Index] != nil {
			return Reply{}, fmt.Errorf("%w: the index %d is not one of %d, or is there twice", ErrReply, one.Index, texts)
		}
		if size := len(one.Embedding); size == 0 || size%4 != 0 || size != len(got.Data[0].Embedding) ||
			(c.Dimensions > 0 && size != 4*c.Dimensions) {
			return Reply{}, fmt.Errorf("%w: a vector has %d bytes", ErrReply, size)
		}
		reply.Vectors[one.Index] = one.Embedding
	}
	return reply, nil
}

func (c *Client) request(texts []string) ([]byte, error) {
	body, err := jsontext.AppendQuote([]byte(`{"encoding_format":"base64","model":`), c.Model)
	if err != nil {
		return nil, err
	}
	if c.Dimensions > 0 {
		body = strconv.AppendInt(append(body, `,"dimensions":`...), int64(c.Dimensions), 10)
	}
	if c.Truncate {
		body = append(body, `,"truncate":true`...)
	}
	body = append(body, `,"input":[`...)
	for i, text := range texts {
		if i > 0 {
			body = append(body, ',')
		}
		if body, err = jsontext.AppendQuote(body, text); err != nil {
			return nil, err
		}
	}
	return append(body, "]}"...), nil
}

// do returns the body and headers of a reply that is 200.
func (c *Client) do(ctx context.Context, method, address string, content []byte) ([]byte, http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(content))
	if err != nil {
		return nil, nil, err
	}
	if content != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.Key != "" {
		request.Header.Set("Authorization", "Bearer "+c.Key)
	}
	response, err := c.HTTP.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, nil, (*Error)(apiclient.ReadRefusal(response, longestPause))
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, mostReply+1))
	if err == nil && len(body) > mostReply {
		err = fmt.Errorf("%w: it has more than %d bytes", ErrReply, mostReply)
	}
	return body, response.Header, err
}

// longestPause bounds what a service may ask for.
const longestPause = 10 * time.Minute
