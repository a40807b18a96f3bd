// Package command is what programs of ours share that are modules of their own: a table of settings, each a flag and a variable
// of the environment, and what an exit status says.
//
// It depends on the standard library and package local alone.
package command

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// Exit statuses.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitUsage  = 64 // EX_USAGE: arguments, environment or files are wrong
)

// UsageError is a mistake of whoever started the program, which time does not mend.
type UsageError struct{ err error }

// Usage says that an error is such a mistake.
func Usage(err error) UsageError { return UsageError{err} }

func (e UsageError) Error() string { return e.err.Error() }

// Unwrap returns what is wrong.
func (e UsageError) Unwrap() error { return e.err }

// Status returns the exit status of a program that ended so. It writes each line of an error with the program's name before it.
func Status(name string, err error, stderr io.Writer) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return ExitOK
	}
	for line := range strings.Lines(err.Error()) {
		_, _ = fmt.Fprintf(stderr, "%s: %s\n", name, strings.TrimSuffix(line, "\n"))
	}
	if _, usage := errors.AsType[UsageError](err); usage {
		return ExitUsage
	}
	return ExitFailed
}
