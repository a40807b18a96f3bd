package jwks

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"triptych.dev/gateway/internal/reread"
)

const (
	// maxSetBytes is ten times what a set with certificates in it takes.
	maxSetBytes = 256 << 10
	// fetchTimeout is for all of a reply.
	fetchTimeout = 5 * time.Second
	// unknownInterval is how often an id that is not in the set may have it fetched before it is due: whoever makes ids up
	// makes no more requests of them.
	unknownInterval = 30 * time.Second
)

// Options are what a Set needs.
type Options struct {
	// File or URL is where the set is.
	File, URL string
	// Interval is how often a URL is asked. A file is looked at all the time.
	Interval time.Duration
	Now      func() time.Time
	Logger   *slog.Logger
	// Client asks a URL; nil is one that follows no redirects.
	Client *http.Client
}

// Set is an issuer's keys, as they were last read. It is safe for concurrent use.
type Set struct {
	options Options
	source  *reread.Source[keySet]
	unknown atomic.Bool // an id was asked for that is not in it

	// Of a URL; used by the source alone.
	round   int // how often it was due
	fetched time.Time
}

// Open reads the set. One at a URL that cannot be fetched is empty until it can: whose keys are not of this issuer must
// not wait for it. A file that cannot be read is an error.
func Open(ctx context.Context, options Options) (*Set, error) {
	s := &Set{options: options}
	if options.Client == nil {
		s.options.Client = newClient()
	}
	if options.File != "" {
		s.source = reread.NewFile("jwks", options.File, readFile, options.Logger)
		return s, s.source.Open(ctx)
	}
	s.source = reread.New(reread.Options[keySet]{
		Name: "jwks", Place: options.URL, Logger: options.Logger, Read: s.fetch,
		Stamp: func(context.Context) any { return s.stamp() },
	})
	if err := s.source.Open(ctx); err != nil {
		s.source.Begin(keySet{}, options.Now(), err)
	}
	return s, nil
}

// Check returns what is wrong with a file.
func Check(path string) error {
	_, err := readFile(path)
	return err
}

// Key returns the key of an id, if it is for an algorithm.
func (s *Set) Key(id, algorithm string) (crypto.PublicKey, bool) {
	key, known := s.source.Content()[name{id, algorithm}]
	if !known {
		s.unknown.Store(true)
	}
	return key, known
}

// Watch takes changes until ctx ends.
func (s *Set) Watch(ctx context.Context) { s.source.Watch(ctx) }

// Staleness is for how long it could not be taken.
func (s *Set) Staleness(now time.Time) time.Duration { return s.source.Staleness(now) }

// stamp is another one when the URL is to be asked again.
func (s *Set) stamp() int {
	now := s.options.Now()
	age := now.Sub(s.fetched)
	if age >= s.options.Interval || age >= unknownInterval && s.unknown.Load() {
		s.unknown.Store(false)
		s.fetched = now
		s.round++
	}
	return s.round
}

func (s *Set) fetch(ctx context.Context) (keySet, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.options.URL, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	reply, err := s.options.Client.Do(request)
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: the reply is %s", s.options.URL, reply.Status)
	}
	return read(s.options.URL, reply.Body)
}

func readFile(path string) (keySet, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return read(path, file)
}

func read(place string, from io.Reader) (keySet, error) {
	data, err := io.ReadAll(io.LimitReader(from, maxSetBytes+1))
	if err == nil && len(data) > maxSetBytes {
		err = fmt.Errorf("it is larger than %d bytes", maxSetBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", place, err)
	}
	keys, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", place, err)
	}
	return keys, nil
}

// newClient returns one that keeps no connection for the minutes until the next time.
func newClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	transport.MaxResponseHeaderBytes = maxSetBytes
	return &http.Client{Transport: transport, CheckRedirect: refuseRedirect}
}

// refuseRedirect keeps the place of the keys what the settings say.
func refuseRedirect(*http.Request, []*http.Request) error {
	return errors.New("it sends us elsewhere: name the place itself")
}
