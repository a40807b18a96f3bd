package engine

import "sync"

// mostTokens is far beyond what any replica has to do; sums of it do not overflow.
const mostTokens = 1 << 40

// work is how much a replica has to do, in tokens: what this gateway has outstanding there, and what the replica tells,
// which counts for all gateways. The zero value has nothing to do.
type work struct {
	mu     sync.Mutex
	calls  int64
	tokens int64
	// told is what the replica last said that it has, and tokensThen what tokens was then: of what came to it since, the
	// replica has not told yet.
	told, tokensThen int64
	leaving          bool
}

// begin takes note of a call of about so many tokens. A replica that leaves takes none.
func (w *work) begin(tokens int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leaving {
		return false
	}
	w.calls++
	w.tokens += tokens
	return true
}

// end takes note that it is over, and reports whether it was the last one of a replica that leaves.
func (w *work) end(tokens int64) (last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls--
	w.tokens -= tokens
	return w.leaving && w.calls == 0
}

// leave lets no further call begin, and reports whether none is running.
func (w *work) leave() (idle bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leaving = true
	return w.calls == 0
}

// tell takes note of what the replica says.
func (w *work) tell(tokens int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told, w.tokensThen = tokens, w.tokens
}

// forget is for a replica of which nothing is told any longer.
func (w *work) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told, w.tokensThen = 0, 0
}

// load is how many tokens there are to do: what was told, and what this gateway has sent since or seen done; not below
// what it has outstanding there.
func (w *work) load() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(w.tokens, w.told+w.tokens-w.tokensThen)
}

// outstanding are this gateway's calls, and their tokens.
func (w *work) outstanding() (calls, tokens int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls, w.tokens
}
