package periodic

import "sync/atomic"

// Trouble has a failure that lasts told once, however often its work is repeated, and its end once.
type Trouble struct{ failing atomic.Bool }

// Began reports whether work fails that did not fail before.
func (t *Trouble) Began(err error) bool { return err != nil && !t.failing.Swap(true) }

// Ended reports whether work succeeds that failed before.
func (t *Trouble) Ended(err error) bool { return err == nil && t.failing.Swap(false) }
