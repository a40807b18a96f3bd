package identity

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// pollInterval is how often a source is looked at. Polling works on every file system and through every way of
	// replacing a file, and on every database; a key that was made or revoked counts within a second.
	pollInterval = 500 * time.Millisecond
	// A source that could not be taken is tried again after twice as long each time, since the cause may lie outside of
	// it and pass, as a lack of descriptors does; and at once when it changes.
	maxRetryInterval = 32 * time.Second
	// repeatLog is how often a source that cannot be taken is complained of. Once is not enough: the line scrolls away,
	// while every change of it waits.
	repeatLog = time.Minute
)

// source is a file or a database, and what it said when it was last good. Whatever happens to it, that stays in force
// until there is something better.
type source[Content any] struct {
	name, place string
	// stamp is comparable, and another one when there may be something new; nil where that cannot be told.
	stamp  func(ctx context.Context) any
	read   func(ctx context.Context) (Content, error)
	logger *slog.Logger

	current    atomic.Pointer[Content]
	staleSince atomic.Pointer[time.Time] // since when it cannot be taken; nil while it can

	// Used by open, then by refresh alone.
	seen     any // the stamp of what is in force
	failed   any // of what could not be taken
	wait     time.Duration
	retryAt  time.Time
	repeatAt time.Time
}

// newFile is a source that is a file.
func newFile[Content any](name, path string, read func(string) (Content, error), logger *slog.Logger) *source[Content] {
	return &source[Content]{name: name, place: path, logger: logger,
		stamp: func(context.Context) any { return stampOf(path) },
		read:  func(context.Context) (Content, error) { return read(path) },
	}
}

// content returns what is in force, once open went well.
func (s *source[Content]) content() Content { return *s.current.Load() }

func (s *source[Content]) open(ctx context.Context) error {
	stamp := s.stamp(ctx)
	err := s.load(ctx)
	if err == nil {
		s.seen = stamp
	}
	return err
}

// refresh takes what changed, or could not be taken before.
func (s *source[Content]) refresh(ctx context.Context, now time.Time) {
	stamp, stale := s.stamp(ctx), s.staleSince.Load() != nil
	if (!stale && stamp == s.seen && stamp != nil) || (stale && stamp == s.failed && now.Before(s.retryAt)) {
		return
	}
	err := s.load(ctx)
	if ctx.Err() != nil {
		return // it is the gateway that ends
	}
	if err != nil {
		s.fail(now, stamp, err)
		return
	}
	s.seen = stamp // as it was before the reading, so that no later change is missed
	s.staleSince.Store(nil)
	s.logger.Info("a source was read again", "source", s.name, "place", s.place)
}

func (s *source[Content]) fail(now time.Time, stamp any, err error) {
	news := stamp != s.failed
	if s.staleSince.Load() == nil {
		s.staleSince.Store(&now)
		news = true
	}
	if news {
		s.wait = pollInterval
	}
	s.failed, s.retryAt = stamp, now.Add(s.wait)
	s.wait = min(2*s.wait, maxRetryInterval)
	if news || !now.Before(s.repeatAt) {
		s.repeatAt = now.Add(repeatLog)
		s.logger.Error("a source cannot be taken: what it said before stays in force, and no change of it counts",
			"source", s.name, "place", s.place, "stale_seconds", s.staleness(now).Seconds(), "error", err)
	}
}

// load takes the content. A panic of a parser, which reads what people write, is one more way to be broken.
func (s *source[Content]) load(ctx context.Context) (err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("%s: the parser failed: %v\n%s", s.place, panicked, debug.Stack())
		}
	}()
	content, err := s.read(ctx)
	if err == nil {
		s.current.Store(&content)
	}
	return err
}

// staleness is for how long it could not be taken.
func (s *source[Content]) staleness(now time.Time) time.Duration {
	since := s.staleSince.Load()
	if since == nil {
		return 0
	}
	return max(0, now.Sub(*since))
}

// fileStamp changes when a file does.
type fileStamp struct {
	modified time.Time
	size     int64
	inode    uint64 // another file under the same name, be it as old and as long
}

func stampOf(path string) fileStamp {
	info, err := os.Stat(path)
	if err != nil {
		return fileStamp{} // gone, or being replaced
	}
	return fileStamp{modified: info.ModTime(), size: info.Size(), inode: inodeOf(info)}
}

func inodeOf(info fs.FileInfo) uint64 {
	if status, ok := info.Sys().(*syscall.Stat_t); ok {
		return status.Ino
	}
	return 0
}
