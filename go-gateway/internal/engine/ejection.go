package engine

import (
	"errors"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"triptych.dev/gateway/internal/fault"
)

const (
	// After so many failures of its own in a row, a replica is ejected.
	failuresToEject = 5
	// At most 1 of so many replicas is ejected at a time: half of two and of four, and none of one. Where most of them
	// fail, it is something else that is broken, and the rest could not do the work of all.
	ejectableOf = 2
	// For how long at first, and at most; twice as long each time, until it has been well for the longest.
	firstEjection   = time.Second
	longestEjection = time.Minute
)

var errHangs = errors.New("the hot path does not answer")

// ejection is what keeps calls away from a replica that fails at them, though it is connected and lists its models. Once
// its time is over, a canary has to succeed before it gets calls again.
type ejection struct {
	failures atomic.Int64 // calls in a row
	out      atomic.Bool
	count    atomic.Uint64 // since the gateway knows it

	// The pool's lock guards these.
	until    time.Time // its time is over
	times    int       // it was ejected, each a short while after the one before
	returned time.Time // from the last one
}

// isOwn reports whether a failure is the replica's own: not what a client asked for, nor its lack of room or its end,
// which it says itself.
func isOwn(failure *fault.Fault) bool {
	switch failure.Reason {
	case fault.Internal:
		return true
	case fault.HotpathUnavailable, fault.DeadlineExceeded:
		return !isDescribed(failure.Cause)
	default:
		return false
	}
}

// isDescribed reports whether the hot path itself says what an error is.
func isDescribed(err error) bool {
	for _, detail := range status.Convert(err).Details() {
		if info, is := detail.(*errdetails.ErrorInfo); is && info.GetDomain() == errorDomain {
			return true
		}
	}
	return false
}

// succeeded takes note of a call that succeeded.
func (j *ejection) succeeded() {
	if j.failures.Load() != 0 {
		j.failures.Store(0)
	}
}

// failed takes note of a failure of a replica's own.
func (p *pool) failed(r *replica, cause error) {
	if r.ejection.failures.Add(1) >= failuresToEject {
		p.eject(r, cause)
	}
}

// eject keeps calls away from a replica, unless too many others are ejected.
func (p *pool) eject(r *replica, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j := &r.ejection
	if j.out.Load() {
		return
	}
	replicas, out := p.replicas(), 1
	for _, other := range replicas {
		if other.ejection.out.Load() {
			out++
		}
	}
	if out*ejectableOf > len(replicas) {
		return
	}
	now := p.options.Now()
	if now.Sub(j.returned) > longestEjection {
		j.times = 0
	}
	j.count.Add(1)
	j.out.Store(true)
	p.keepOut(r, now, cause)
}

// keepOut begins the time of a replica that is out. The caller holds the lock.
func (p *pool) keepOut(r *replica, now time.Time, cause error) {
	j := &r.ejection
	length := longestEjection
	if j.times < 16 {
		length = min(firstEjection<<j.times, longestEjection)
	}
	j.times++
	j.until = now.Add(length)
	p.options.Logger.Warn("a replica is ejected", "replica", r.address, "for", length.String(), "cause", cause.Error())
}

// onProbation reports whether a replica is ejected and its time is over: it has to prove that it works.
func (p *pool) onProbation(r *replica) bool {
	if !r.ejection.out.Load() { // as nearly always
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.isDue(r)
}

// isDue is onProbation. The caller holds the lock.
func (p *pool) isDue(r *replica) bool {
	return r.ejection.out.Load() && !p.options.Now().Before(r.ejection.until)
}

// tried takes note of how a replica on probation did.
func (p *pool) tried(r *replica, failure error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.isDue(r):
	case failure == nil:
		p.readmit(r)
	default:
		p.keepOut(r, p.options.Now(), failure)
	}
}

// readmit gives a replica calls again. The caller holds the lock.
func (p *pool) readmit(r *replica) {
	j := &r.ejection
	j.failures.Store(0)
	j.returned = p.options.Now()
	j.out.Store(false)
	p.options.Logger.Info("a replica is no longer ejected", "replica", r.address)
}

// readmitSome ends ejections, the oldest first, until there are no more than may be of the replicas that are left. The
// caller holds the lock.
func (p *pool) readmitSome() {
	for {
		var first *replica
		replicas, out := p.replicas(), 0
		for _, r := range replicas {
			if !r.ejection.out.Load() {
				continue
			}
			out++
			if first == nil || r.ejection.until.Before(first.ejection.until) {
				first = r
			}
		}
		if first == nil || out*ejectableOf <= len(replicas) {
			return
		}
		p.readmit(first)
	}
}
