package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/charmbracelet/x/term"

	"triptych.dev/gateway/internal/adminapi"
	"triptych.dev/gateway/internal/top"
)

// minTopInterval is as often as a gateway takes overviews, however often it is asked.
const minTopInterval = 500 * time.Millisecond

// showTop shows a running gateway until somebody has seen enough, or once.
func showTop(ctx context.Context, t terminal, arguments []string) error {
	flags := newFlags("top")
	once := flags.Bool("once", false, "print it once, as plain tables")
	interval := flags.Duration("interval", time.Second, "how often to ask, and what rates are of")
	settings, err := t.parse(flags, arguments, adminSettings...)
	if err != nil {
		return err
	}
	if *interval < minTopInterval || *interval > time.Hour {
		return usageError{errors.New("--interval: from 500ms to 1h")}
	}
	name, _ := t.lookup("TERM")
	if !*once && (!isTerminal(t.stdout) || !isTerminal(os.Stdin) || name == "dumb") {
		return usageError{errors.New("there is no terminal to show a live view on; `gateway top --once` prints plain tables")}
	}
	client, err := askAdmin(settings)
	if err != nil {
		return err
	}
	defer client.Close()
	if *once {
		return top.Once(ctx, topSource{client}, settings.AdminAddress, *interval, t.stdout)
	}
	noColor, _ := t.lookup("NO_COLOR")
	return top.Run(ctx, topSource{client}, top.Options{
		Address: settings.AdminAddress, Interval: *interval, Colored: noColor == "",
		Input: os.Stdin, Output: t.stdout, Now: time.Now,
	})
}

// topSource is the admin API as top asks it.
type topSource struct{ *adminapi.Client }

func (s topSource) Limits(ctx context.Context, tenant string) (adminapi.Limits, error) {
	limits, _, err := s.Client.Limits(ctx, tenant, "", "")
	return limits, err
}

func isTerminal(stream any) bool {
	file, is := stream.(*os.File)
	return is && term.IsTerminal(file.Fd())
}
