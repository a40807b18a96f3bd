package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/store"
)

const (
	idempotencyHeader = "Idempotency-Key"
	replayedHeader    = "Idempotent-Replayed"
	// maxComparedFields of a body are told apart; one with more is compared as a whole.
	maxComparedFields = 32
	// wholeBody stands for all fields of a body.
	wholeBody = "body"
	// inFlightPause is what a request is asked to wait while another one with its key ends.
	inFlightPause = time.Second
)

var validIdempotencyKey = regexp.MustCompile(`^[ -~]{1,255}$`)

// Answers find what was answered under an Idempotency-Key.
type Answers interface {
	FindAnswer(ctx context.Context, tenant, route, key string) (store.Answer, error)
}

// keysInFlight are those of requests that this gateway serves now. Between gateways it is the store that lets one create.
type keysInFlight struct {
	mu   sync.Mutex
	keys map[[3]string]struct{} // at most one a request
}

func (k *keysInFlight) begin(key [3]string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, taken := k.keys[key]; taken {
		return false
	}
	if k.keys == nil {
		k.keys = map[[3]string]struct{}{}
	}
	k.keys[key] = struct{}{}
	return true
}

func (k *keysInFlight) end(key [3]string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.keys, key)
}

// creation is a request that creates something, once if it has an Idempotency-Key: repeated, it is answered as before.
type creation struct {
	ex     *exchange
	status int // of its answer
	key    string
	before *store.Answer // to the key's first request
}

// newCreation reads the key, and looks for what it was used for. A handler calls it before anything that could refuse a
// request that succeeded before, and closes it in the end.
func newCreation(ex *exchange, status int) (*creation, error) {
	c := &creation{ex: ex, status: status}
	var err error
	if c.key, err = idempotencyKey(ex.request.Header); err != nil || c.key == "" {
		return c, err
	}
	if !ex.server.creating.begin(c.owned()) {
		return nil, inFlight("is under way. Repeat the request once it has ended")
	}
	before, err := c.find()
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		c.close()
		return nil, fault.InternalError(err)
	}
	if err == nil {
		c.before = &before
	}
	return c, nil
}

// idempotencyKey is what a client sends to have its request answered once; empty if it sends none.
func idempotencyKey(header http.Header) (string, error) {
	sent := header.Values(idempotencyHeader)
	if len(sent) == 0 {
		return "", nil
	}
	if len(sent) > 1 || !validIdempotencyKey.MatchString(sent[0]) {
		return "", fault.New(fault.InvalidValue, "%s must be there once, with 1 to 255 printable ASCII characters.", idempotencyHeader)
	}
	return sent[0], nil
}

// owned is the key, of whom and what it is.
func (c *creation) owned() [3]string {
	return [3]string{c.ex.principal.Tenant, c.ex.route, c.key}
}

func (c *creation) close() {
	if c.key != "" {
		c.ex.server.creating.end(c.owned())
	}
}

func (c *creation) find() (store.Answer, error) {
	return c.ex.server.Answers.FindAnswer(c.ex.request.Context(), c.ex.principal.Tenant, c.ex.route, c.key)
}

func inFlight(state string) error {
	return &fault.Fault{
		Reason: fault.IdempotencyInFlight, RetryAfter: inFlightPause,
		Message: "Another request with the same " + idempotencyHeader + " " + state + ", for its answer.",
	}
}

// created is what a creation is answered.
type created struct {
	id   string
	body []byte
	// once is the answer for whoever asked first alone; nil: it is the body.
	once []byte
}

// createFromJSON serves a POST of JSON that creates something, of which add is given the answer to keep in its transaction.
func createFromJSON[Resource any](
	ex *exchange, status int, render func(Resource) (created, error), add func(store.Answering[Resource]) (Resource, error),
) error {
	c, err := newCreation(ex, status)
	if err != nil {
		return err
	}
	defer c.close()
	fields := bodyFields(ex.body)
	if id := ex.request.PathValue("id"); id != "" {
		fields.add("the path's id", []byte(id))
	}
	return create(c, fields, render, add)
}

// create creates something of these fields, or repeats what the key's first request was answered.
func create[Resource any](
	c *creation, fields comparedFields, render func(Resource) (created, error), add func(store.Answering[Resource]) (Resource, error),
) error {
	request, err := json.Marshal(fields, json.Deterministic(true))
	if err != nil {
		return fault.InternalError(err)
	}
	if c.before != nil {
		return c.replay(*c.before, fields)
	}
	var answer created
	_, err = add(func(resource Resource) (*store.Answer, error) {
		var err error
		if answer, err = render(resource); err != nil {
			return nil, fault.InternalError(err)
		}
		if c.key == "" {
			return nil, nil
		}
		return &store.Answer{
			Route: c.ex.route, Key: c.key, Request: string(request), Resource: answer.id, Status: c.status, Body: answer.body,
		}, nil
	})
	if answered, is := errors.AsType[store.ErrAnswered](err); is { // meanwhile
		return c.replay(answered.Answer, fields)
	}
	if err != nil {
		return c.refused(err)
	}
	if answer.once != nil {
		answer.body = answer.once
	}
	c.reply(c.status, answer)
	return nil
}

// replay answers as before a request that asks for the same.
func (c *creation) replay(before store.Answer, fields comparedFields) error {
	var first comparedFields
	if err := json.Unmarshal([]byte(before.Request), &first); err != nil {
		return fault.InternalError(err)
	}
	if differing := fields.differing(first); len(differing) > 0 {
		return fault.New(fault.IdempotencyKeyReused,
			"%s was first sent with another request, at %s, which has created %s: %s differs. A key is for repetitions of one request; send another one.",
			idempotencyHeader, before.Created.Format(time.RFC3339), before.Resource, fault.Listed(differing, 0))
	}
	c.ex.header().Set(replayedHeader, "true")
	c.reply(before.Status, created{id: before.Resource, body: before.Body})
	return nil
}

func (c *creation) reply(status int, answer created) {
	if status != http.StatusOK {
		c.ex.header().Set("Location", c.ex.route+"/"+answer.id)
	}
	c.ex.reply(status, answer.body)
}

// refused is why nothing was created. A limit may have been reached by the key's first request, which has just ended in
// another gateway: its repetition then has its answer.
func (c *creation) refused(err error) error {
	if c.key == "" || c.before != nil {
		return err
	}
	if _, findErr := c.find(); findErr != nil {
		return err
	}
	return inFlight("has just ended. Repeat the request")
}

// comparedFields are hashes of a request's fields, by their names: whether two requests ask for the same, and else in what
// they differ, can be told without keeping them.
type comparedFields map[string]string

func (f comparedFields) add(name string, value []byte) {
	sum := sha256.Sum256(value)
	f[name] = hex.EncodeToString(sum[:16])
}

// differing lists the fields in which requests differ.
func (f comparedFields) differing(other comparedFields) []string {
	names := map[string]bool{}
	for name := range f {
		names[name] = true
	}
	for name := range other {
		names[name] = true
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(names)), func(name string) bool { return f[name] == other[name] })
}

// bodyFields are the fields of an object of JSON, each as it was sent.
func bodyFields(body []byte) comparedFields {
	var members map[string]jsontext.Value
	fields := comparedFields{}
	if err := json.Unmarshal(body, &members); err != nil || members == nil || len(members) > maxComparedFields {
		fields.add(wholeBody, body)
		return fields
	}
	for name, value := range members {
		if len(name) > maxFieldBytes {
			clear(fields)
			fields.add(wholeBody, body)
			return fields
		}
		fields.add(name, value)
	}
	return fields
}
