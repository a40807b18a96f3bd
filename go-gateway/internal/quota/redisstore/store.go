// Package redisstore keeps what is used in Redis, so that several gateways keep to the same limits.
//
// A decision is one Lua script in one round trip, by Redis' own clock. What a request did not use is given back behind its
// back, in batches. It must not depend on HTTP.
package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"triptych.dev/gateway/internal/quota"
)

const (
	// queueLength is how many settlements and renewals wait for Redis: a minute of a thousand requests a second. What does
	// not fit is forgotten: its leases expire, and its bucket heals.
	queueLength = 64 << 10
	// maxBatch is how many go at once.
	maxBatch = 128
	// A command that takes longer ends its connection. Decisions are not waited for as long.
	connectionTimeout = 2 * time.Second
	// A batch that failed is sent again after this.
	retryInterval = 250 * time.Millisecond
)

// Options are what a Store needs.
type Options struct {
	// URL is redis://, rediss:// or unix://.
	URL string
	// Lease is for how long a reservation holds what does not heal by itself, unless it is renewed.
	Lease  time.Duration
	Logger *slog.Logger
	// Now is the clock of tests; nil is Redis' own.
	Now func() time.Time
	// Dropped is told of each settlement that did not fit; it may be nil.
	Dropped func()
}

// Store is a quota.Store in Redis.
type Store struct {
	options Options
	client  rueidis.ClientOption

	queue chan job

	mu        sync.Mutex
	connected rueidis.Client // nil until it is
}

// job is one call of a script that nobody waits for.
type job struct {
	script *script
	keys   []string
	// args has first in its third place, where a settlement says whether it may have been applied.
	args []string
}

var errNotConnected = errors.New("there is no connection to Redis yet")

// New returns a Store that Ping connects. Its error is of the URL.
func New(options Options) (*Store, error) {
	client, err := rueidis.ParseURL(options.URL)
	if err != nil {
		return nil, errors.New("must be as redis://:password@host:6379/0, rediss:// or unix://") // the cause may hold a password
	}
	client.DisableCache, client.DisableRetry, client.ForceSingleClient = true, true, true
	client.ConnWriteTimeout, client.Dialer.Timeout = connectionTimeout, connectionTimeout
	client.ClientName, client.ClientNoTouch, client.AlwaysRESP2 = "gateway", false, true
	return &Store{options: options, client: client, queue: make(chan job, queueLength)}, nil
}

// Ping connects if need be, and asks for a sign of life.
func (s *Store) Ping(ctx context.Context) error {
	client, err := s.connect()
	if err != nil {
		return err
	}
	return client.Do(ctx, client.B().Ping().Build()).Error()
}

// connect returns the client, once there has been a connection.
func (s *Store) connect() (rueidis.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connected != nil {
		return s.connected, nil
	}
	client, err := rueidis.NewClient(s.client)
	if err != nil {
		return nil, err
	}
	s.connected = client
	s.checkPolicy(client)
	return client, nil
}

// checkPolicy warns of a Redis that forgets keys when it is full: then limits would be forgotten.
func (s *Store) checkPolicy(client rueidis.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), connectionTimeout)
	defer cancel()
	policy, err := client.Do(ctx, client.B().ConfigGet().Parameter("maxmemory-policy").Build()).AsStrMap()
	if err != nil {
		s.options.Logger.Info("Redis does not tell its maxmemory-policy: it must be noeviction", "error", err)
	} else if found := policy["maxmemory-policy"]; found != "noeviction" {
		s.options.Logger.Warn("Redis forgets limits when it is full: its maxmemory-policy must be noeviction", "maxmemory_policy", found)
	}
}

// Lease implements quota.Store.
func (s *Store) Lease() time.Duration { return s.options.Lease }

// current is the client if there is one.
func (s *Store) current() (rueidis.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connected == nil {
		return nil, errNotConnected
	}
	return s.connected, nil
}

// Reserve implements quota.Store.
func (s *Store) Reserve(ctx context.Context, request quota.Request, instead *quota.Reservation) (quota.Decision, error) {
	client, err := s.current()
	if err != nil {
		return quota.Decision{}, err
	}
	keys, args := s.reserveArguments(&request, false)
	if len(keys) == 0 { // nothing is limited
		return quota.Decision{
			Limits: request.Limits, Now: time.Now(), Reservation: quota.Reservation{Request: request, Granted: request.MaxTokens},
		}, nil
	}
	var before *job
	if instead != nil {
		before = new(s.settlement(instead, 0))
	}
	numbers, err := reserveScript.call(ctx, client, before, keys, args).AsIntSlice()
	if err != nil {
		return quota.Decision{}, err
	}
	return decisionOf(&request, numbers)
}

// Look implements quota.Store.
func (s *Store) Look(ctx context.Context, request quota.Request) (quota.Decision, error) {
	client, err := s.current()
	if err != nil {
		return quota.Decision{}, err
	}
	keys, args := s.reserveArguments(&request, true)
	if len(keys) == 0 {
		return quota.Decision{Limits: request.Limits, Now: time.Now()}, nil
	}
	numbers, err := reserveScript.call(ctx, client, nil, keys, args).AsIntSlice()
	if err != nil {
		return quota.Decision{}, err
	}
	read, err := replyOf(&request, numbers)
	return quota.Decision{Limits: request.Limits, States: read.states, Now: read.now}, err
}

// Settle implements quota.Store: it is done behind the request's back.
func (s *Store) Settle(reservation quota.Reservation, used int64) {
	if reservation.HasLimits() {
		s.enqueue(s.settlement(&reservation, used))
	}
}

// Renew implements quota.Store.
func (s *Store) Renew(reservations []quota.Reservation) {
	for i := range reservations {
		s.enqueue(s.renewal(&reservations[i]))
	}
}

// Hold implements quota.Store.
func (s *Store) Hold(holds []quota.Hold) {
	for i := range holds {
		for scope := range quota.Scopes {
			if holds[i].Holds(scope) {
				s.enqueue(s.hold(&holds[i], scope))
			}
		}
	}
}

// Forget implements quota.Store: charges expire by themselves, since other gateways tell them too.
func (*Store) Forget([]quota.Charge) {}

// Charge implements quota.Store, in one round trip.
func (s *Store) Charge(ctx context.Context, charges []quota.Charge) ([]quota.State, error) {
	client, err := s.current()
	if err != nil {
		return nil, err
	}
	jobs, commands := make([]job, len(charges)), make(rueidis.Commands, len(charges))
	for i := range charges {
		jobs[i] = s.charge(&charges[i])
		commands[i] = chargeScript.command(client, jobs[i].keys, jobs[i].args)
	}
	states := make([]quota.State, len(charges))
	for i, result := range client.DoMulti(ctx, commands...) {
		used, err := chargeScript.wholeIfUnknown(ctx, client, result, jobs[i].keys, jobs[i].args).AsIntSlice()
		if err != nil {
			return nil, err
		}
		if len(used) != 3 {
			return nil, fmt.Errorf("the script of charges returned %d numbers", len(used))
		}
		states[i] = quota.State{Requests: used[0], Tokens: used[1], DayTokens: used[2]}
	}
	return states, nil
}

func (s *Store) enqueue(one job) {
	select {
	case s.queue <- one:
	default:
		if s.options.Dropped != nil {
			s.options.Dropped()
		}
	}
}

// Watch sends what is to be settled until ctx ends, and then what is left, if Redis takes it.
func (s *Store) Watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.Background(), connectionTimeout)
			defer cancel()
			s.sendAll(last)
			return
		case first := <-s.queue:
			s.send(ctx, s.batch(first))
		}
	}
}

// sendAll sends what waits, until ctx ends.
func (s *Store) sendAll(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case first := <-s.queue:
			s.send(ctx, s.batch(first))
		default:
			return
		}
	}
}

// batch is what waits, beginning with first.
func (s *Store) batch(first job) []job {
	batch := []job{first}
	for len(batch) < maxBatch {
		select {
		case next := <-s.queue:
			batch = append(batch, next)
		default:
			return batch
		}
	}
	return batch
}

// send sends a batch until it has been taken.
func (s *Store) send(ctx context.Context, batch []job) {
	for {
		if client, err := s.current(); err == nil {
			within, cancel := context.WithTimeout(ctx, connectionTimeout)
			batch = callAll(within, client, batch)
			cancel()
		}
		if len(batch) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryInterval):
		}
	}
}

// Close ends the connection.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connected != nil {
		s.connected.Close()
	}
	return nil
}

// reply is what the reserve script returns.
type reply struct {
	allowed bool
	granted int64
	now     time.Time
	states  [quota.Scopes]quota.State
	taken   [quota.Scopes]quota.Taken
}

const numbersOfSubject = 8

func replyOf(request *quota.Request, numbers []int64) (reply, error) {
	subjects := 0
	for range request.Limited() {
		subjects++
	}
	if len(numbers) != 3+numbersOfSubject*subjects {
		return reply{}, fmt.Errorf("the script returned %d numbers for %d subjects", len(numbers), subjects)
	}
	read := reply{allowed: numbers[0] == 1, granted: numbers[1], now: time.UnixMicro(numbers[2])}
	rest := numbers[3:]
	for scope := range request.Limited() {
		read.states[scope] = quota.State{Requests: rest[0], Tokens: rest[1], DayTokens: rest[2], Running: rest[3], Streams: rest[4]}
		read.taken[scope] = quota.Taken{Cost: rest[5], ArrivalTime: rest[6], Returned: rest[7]}
		rest = rest[numbersOfSubject:]
	}
	return read, nil
}

func decisionOf(request *quota.Request, numbers []int64) (quota.Decision, error) {
	read, err := replyOf(request, numbers)
	if err != nil {
		return quota.Decision{}, err
	}
	decision := quota.Decision{States: read.states, Now: read.now, Limits: request.Limits}
	if !read.allowed {
		decision.Refusal = request.Explain(read.states, read.now)
		if decision.Refusal == nil {
			return quota.Decision{}, fmt.Errorf("the script refused for nothing that is known: %+v", read.states)
		}
		return decision, nil
	}
	decision.Reservation = quota.Reservation{Request: *request, Granted: read.granted, Day: quota.DayOf(read.now), Tokens: read.taken}
	return decision, nil
}
