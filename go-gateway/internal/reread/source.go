// Package reread keeps what a file or a database says in force while it changes, and while it cannot be taken.
//
// It must not depend on what is read.
package reread

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
	// PollInterval is how often a source is looked at. Polling works on every file system and through every way of
	// replacing a file, and on every database; a key that was made or revoked counts within a second.
	PollInterval = 500 * time.Millisecond
	// MaxRetryInterval is the longest wait until a source that could not be taken is tried again: after twice as long each
	// time, since the cause may lie outside of it and pass, as a lack of descriptors does; and at once when it changes.
	MaxRetryInterval = 32 * time.Second
	// repeatLog is how often a source that cannot be taken is complained of. Once is not enough: the line scrolls away,
	// while every change of it waits.
	repeatLog = time.Minute
)

// Source is files or a database, and what they said when they were last good. Whatever happens to them, that stays in
// force until there is something better.
type Source[Content any] struct {
	Options[Content]

	current    atomic.Pointer[Content]
	staleSince atomic.Pointer[time.Time] // since when it cannot be taken; nil while it can

	// Used by Open, then by Refresh alone.
	seen     any // the stamp of what is in force
	failed   any // of what could not be taken
	wait     time.Duration
	retryAt  time.Time
	repeatAt time.Time
}

// Options are what a Source needs.
type Options[Content any] struct {
	// Name and Place say in the log which one it is.
	Name, Place string
	// Stamp is comparable, and another one when there may be something new; nil where that cannot be told.
	Stamp func(ctx context.Context) any
	// Read takes all of it.
	Read   func(ctx context.Context) (Content, error)
	Logger *slog.Logger
}

// New returns a Source, which is to be opened.
func New[Content any](options Options[Content]) *Source[Content] {
	return &Source[Content]{Options: options}
}

// NewFile returns a Source that is a file.
func NewFile[Content any](name, path string, read func(string) (Content, error), logger *slog.Logger) *Source[Content] {
	return New(Options[Content]{
		Name: name, Place: path, Logger: logger,
		Stamp: func(context.Context) any { return StampOf(path) },
		Read:  func(context.Context) (Content, error) { return read(path) },
	})
}

// Content returns what is in force, once Open went well.
func (s *Source[Content]) Content() Content { return *s.current.Load() }

// Open reads it for the first time.
func (s *Source[Content]) Open(ctx context.Context) error {
	stamp := s.Stamp(ctx)
	err := s.load(ctx)
	if err == nil {
		s.seen = stamp
	}
	return err
}

// Begin puts something in force where Open failed, until there is something better.
func (s *Source[Content]) Begin(content Content, now time.Time, err error) {
	s.current.Store(&content)
	s.fail(now, nil, err)
}

// Watch takes changes until ctx ends.
func (s *Source[Content]) Watch(ctx context.Context) {
	ticker := time.NewTicker(PollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			s.Refresh(ctx, now)
		}
	}
}

// Refresh takes what changed, or could not be taken before.
func (s *Source[Content]) Refresh(ctx context.Context, now time.Time) {
	stamp, stale := s.Stamp(ctx), s.staleSince.Load() != nil
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
	s.Logger.Info("a source was read again", "source", s.Name, "place", s.Place)
}

func (s *Source[Content]) fail(now time.Time, stamp any, err error) {
	news := stamp != s.failed
	if s.staleSince.Load() == nil {
		s.staleSince.Store(&now)
		news = true
	}
	if news {
		s.wait = PollInterval
	}
	s.failed, s.retryAt = stamp, now.Add(s.wait)
	s.wait = min(2*s.wait, MaxRetryInterval)
	if news || !now.Before(s.repeatAt) {
		s.repeatAt = now.Add(repeatLog)
		s.Logger.Error("a source cannot be taken: what it said before stays in force, and no change of it counts",
			"source", s.Name, "place", s.Place, "stale_seconds", s.Staleness(now).Seconds(), "error", err)
	}
}

// load takes the content. A panic of a parser, which reads what people write, is one more way to be broken.
func (s *Source[Content]) load(ctx context.Context) (err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("%s: the parser failed: %v\n%s", s.Place, panicked, debug.Stack())
		}
	}()
	content, err := s.Read(ctx)
	if err == nil {
		s.current.Store(&content)
	}
	return err
}

// Staleness is for how long it could not be taken.
func (s *Source[Content]) Staleness(now time.Time) time.Duration {
	since := s.staleSince.Load()
	if since == nil {
		return 0
	}
	return max(0, now.Sub(*since))
}

// FileStamp is another one when a file changes.
type FileStamp struct {
	modified time.Time
	size     int64
	inode    uint64 // another file under the same name, be it as old and as long
}

// StampOf returns the stamp of what is there now.
func StampOf(path string) FileStamp {
	info, err := os.Stat(path)
	if err != nil {
		return FileStamp{} // gone, or being replaced
	}
	return FileStamp{modified: info.ModTime(), size: info.Size(), inode: inodeOf(info)}
}

func inodeOf(info fs.FileInfo) uint64 {
	if status, ok := info.Sys().(*syscall.Stat_t); ok {
		return status.Ino
	}
	return 0
}
