package periodic

import "sync/atomic"

// Trouble has a failure that lasts told once, however often its work is repeated, and its end once.
type Trouble struct{ failing atomic.Bool }

// Began takes what came of work, and reports whether it fails that did not fail before.
func (t *Trouble) Began(err error) bool { return !t.failing.Swap(err != nil) && err != nil }

// Ended reports whether work succeeds that failed before. To be asked before Began, by who tells that too.
func (t *Trouble) Ended(err error) bool { return err == nil && t.failing.Swap(false) }
