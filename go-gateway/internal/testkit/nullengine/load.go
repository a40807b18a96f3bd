package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of one run, so that what it keeps of each reply fits.
const (
	maxConnections = 4096
	maxDuration    = 10 * time.Minute
)

// plan is what a run sends.
type plan struct {
	targets     []target // asked in turn, each with every body
	connections int      // to each target
	// duration is how long requests are sent, and warmup how much of that does not count.
	duration, warmup time.Duration
	perSecond        float64 // requests that are due each second; 0: each connection sends one when the last is answered
}

// target is a server, and the requests as one caller sends them to it.
type target struct {
	address  string
	requests [][]byte
}

// texts are a flag that may be repeated.
type texts []string

func (t *texts) String() string         { return strings.Join(*t, ", ") }
func (t *texts) Set(value string) error { *t = append(*t, value); return nil }

// runLoad drives servers and prints what came back, as JSON.
func runLoad(ctx context.Context, _ *slog.Logger, arguments []string) error {
	p, err := parsePlan(arguments)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(drive(ctx, p))
}

func parsePlan(arguments []string) (*plan, error) {
	var urls, keys texts
	p := &plan{}
	flags := flag.NewFlagSet("nullengine load", flag.ContinueOnError)
	flags.Var(&urls, "url", "what is asked, by POST; repeated, each is asked in turn")
	flags.Var(&keys, "key", "the caller's key; repeated, one for each url, or all for the one url in turn")
	bodies := flags.String("bodies", "", "file with a JSON body a line")
	flags.IntVar(&p.connections, "connections", 1, "requests under way at once, at most")
	flags.DurationVar(&p.duration, "duration", time.Second, "how long requests are sent; all are waited for")
	flags.DurationVar(&p.warmup, "warmup", 0, "how much of that does not count")
	flags.Float64Var(&p.perSecond, "rate", 0, "requests that are due each second, in even steps; 0: as they are answered")
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	if p.connections < 1 || p.connections > maxConnections {
		return nil, fmt.Errorf("--connections must be from 1 to %d", maxConnections)
	}
	if p.duration <= 0 || p.duration > maxDuration || p.warmup < 0 || p.warmup >= p.duration || p.perSecond < 0 {
		return nil, fmt.Errorf("--duration must be above 0 and at most %v, --warmup shorter, and --rate not negative", maxDuration)
	}
	if len(urls) == 1 {
		for len(urls) < len(keys) {
			urls = append(urls, urls[0])
		}
	}
	if len(urls) == 0 || len(urls) != len(keys) {
		return nil, errors.New("--url and --key are required, as many of one as of the other, or one --url")
	}
	file, err := os.ReadFile(*bodies)
	if err != nil {
		return nil, err
	}
	for i, address := range urls {
		to, err := newTarget(address, keys[i], string(file))
		if err != nil {
			return nil, err
		}
		p.targets = append(p.targets, to)
	}
	return p, nil
}

// newTarget makes one request of each line.
func newTarget(address, key, bodies string) (target, error) {
	parsed, err := url.Parse(address)
	if err != nil || parsed.Scheme != "http" || parsed.Port() == "" {
		return target{}, errors.Join(err, errors.New("--url must be http://host:port/path"))
	}
	to := target{address: parsed.Host}
	for body := range strings.Lines(bodies) {
		body = strings.TrimSpace(body)
		to.requests = append(to.requests, fmt.Appendf(nil,
			"POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			parsed.RequestURI(), parsed.Host, key, len(body), body))
	}
	if len(to.requests) == 0 {
		return target{}, errors.New("--bodies has no line")
	}
	return to, nil
}

// drive sends requests until the plan's time is over, and waits for every reply.
func drive(ctx context.Context, p *plan) *result {
	start := time.Now()
	var next atomic.Int64
	var group sync.WaitGroup
	clients := make([]*client, p.connections)
	for i := range clients {
		clients[i] = newClient(p, start, &next)
		group.Go(func() { clients[i].run(ctx) })
	}
	group.Wait()
	return summarize(p, clients)
}
