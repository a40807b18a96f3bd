package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/cmd/embed/internal/output"
	"triptych.dev/gateway/internal/workpool"
)

// The files of an output folder beside the result. Locks are the kernel's: whoever has one and dies gives it back.
const (
	settingsFile = "settings.json" // what all who share the folder must agree on
	settingsLock = ".settings.lock"
	runningLock  = ".running.lock"  // shared by all that run
	assemblyLock = ".assembly.lock" // had by who writes the result
	doneFile     = "done.json"      // what the result is of; absent while it is replaced
	failedFile   = "failed.jsonl"
)

// agreed is what makes a folder's result one.
type agreed struct {
	Model      string   `json:"model"`
	Dimensions int      `json:"dimensions"`
	Truncate   bool     `json:"truncate"`
	Format     string   `json:"format"`
	Text       string   `json:"text_field"`
	ID         string   `json:"id_field"`
	Inputs     []string `json:"inputs"`
}

func (s *settings) agreed() (agreed, error) {
	a := agreed{s.model, s.dimensions, s.truncate, s.format, s.records.Text, s.records.ID, nil}
	for _, input := range s.inputs {
		path, err := filepath.Abs(input)
		if err != nil {
			return a, err
		}
		a.Inputs = append(a.Inputs, path)
	}
	return a, nil
}

// differences from what the folder was begun with, in the words of the command line.
func (a *agreed) differences(begun *agreed) (found []string) {
	differ := func(flag string, now, then any) {
		if now != then {
			found = append(found, fmt.Sprintf("--%s is %v, and was %v", flag, now, then))
		}
	}
	differ("model", a.Model, begun.Model)
	differ("dimensions", a.Dimensions, begun.Dimensions)
	differ("truncate", a.Truncate, begun.Truncate)
	differ("format", a.Format, begun.Format)
	differ("text-field", a.Text, begun.Text)
	differ("id-field", a.ID, begun.ID)
	return found
}

// errOthers is that of a command that may not be given while others run.
var errOthers = errors.New("others run on this folder")

// enter opens the folder and says that this process runs there, until leave is called. Whoever is alone may name other
// inputs than last time.
func enter(ctx context.Context, s *settings) (leave func(), err error) {
	now, err := s.agreed()
	if err != nil {
		return nil, err
	}
	for _, input := range now.Inputs {
		folder, err := filepath.Abs(s.output)
		if err != nil {
			return nil, err
		}
		if folder == input || strings.HasPrefix(folder, strings.TrimSuffix(input, "/")+"/") {
			return nil, usageError{fmt.Errorf("--output %s is within --input %s, and would become its own input", s.output, input)}
		}
	}
	if err := os.MkdirAll(s.output, 0o777); err != nil {
		return nil, err
	}
	settling, err := lock(ctx, filepath.Join(s.output, settingsLock))
	if err != nil {
		return nil, err
	}
	defer func() { _ = settling.Close() }()
	running, err := os.OpenFile(filepath.Join(s.output, runningLock), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = running.Close()
		}
	}()
	alone := syscall.Flock(int(running.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
	if err := agree(s, &now, alone); err != nil {
		return nil, err
	}
	// Nobody takes it meanwhile: they would have to settle first.
	if err := syscall.Flock(int(running.Fd()), syscall.LOCK_SH); err != nil {
		return nil, err
	}
	return func() { _ = running.Close() }, nil
}

func agree(s *settings, now *agreed, alone bool) error {
	path := filepath.Join(s.output, settingsFile)
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err == nil {
		var begun agreed
		if err := json.Unmarshal(content, &begun); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if found := now.differences(&begun); len(found) > 0 {
			return usageError{fmt.Errorf("%s was begun with other settings; name another --output (and the same --cache %s, so "+
				"that nothing is embedded twice): %s", s.output, s.cache, strings.Join(found, "; "))}
		}
		same := slices.Equal(now.Inputs, begun.Inputs)
		if !same && !alone {
			return usageError{fmt.Errorf("%w with other inputs: %s", errOthers, strings.Join(begun.Inputs, ", "))}
		}
		if s.retryRefused && !alone {
			return usageError{fmt.Errorf("--retry-refused: %w", errOthers)}
		}
		if same {
			return nil
		}
	}
	content, err = json.Marshal(now, jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	return output.WriteFile(path, append(content, '\n'))
}

// lock waits for a lock that others give back soon, or when they have ended.
func lock(ctx context.Context, path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = file.Close()
			return nil, err
		}
		if !workpool.Sleep(ctx, lookAgain) {
			_ = file.Close()
			return nil, context.Cause(ctx)
		}
	}
}

// lookAgain is how often something is looked at that other processes change.
const lookAgain = 50 * time.Millisecond
