package testkit

import (
	"bytes"
	"sync"
)

// Log is what a program writes, for tests that read it while it runs.
type Log struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

// Write appends data.
func (l *Log) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.Write(data)
}

// String returns what was written since the last Reset.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.String()
}

// Reset forgets what was written.
func (l *Log) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buffer.Reset()
}
