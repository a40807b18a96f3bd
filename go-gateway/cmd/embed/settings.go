package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"triptych.dev/gateway/cmd/embed/internal/output"
	"triptych.dev/gateway/cmd/embed/internal/records"
)

// settings are the command line's.
type settings struct {
	url, key, model, revision string
	dimensions                int
	truncate                  bool

	inputs  []string
	records records.Options

	output, cache, format string

	concurrency, batchTexts, batchBytes int
	timeout, patience                   time.Duration
	allowDuplicates, retryRefused       bool
}

const usage = `Embeds texts of files through the API, and writes their vectors.

  embed --url http://127.0.0.1:8080 --api-key-file key --input docs.jsonl --id-field id --output vectors/

The same command again goes on where it was ended, and embeds only what has changed. Several at once share the work.
docs/pipelines.md has the rest. Exit codes: 0 done, 1 not done, 3 done but for what failed.jsonl says, 64 settings, 130 Ctrl-C.

`

// errHelp is that of a command line that asks for help, which it has got.
var errHelp = errors.New("help")

// usageError is one of the command line.
type usageError struct{ error }

func readSettings(arguments []string, environment func(string) (string, bool), stderr io.Writer) (*settings, error) {
	s := &settings{}
	flags := flag.NewFlagSet("embed", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var keyFile string
	flags.StringVar(&s.url, "url", "http://127.0.0.1:8080", "where the `API` is")
	flags.StringVar(&keyFile, "api-key-file", "", "a `file` with the API key alone; without it, OPENAI_API_KEY is the key")
	flags.StringVar(&s.model, "model", "all-minilm-l6-v2", "the model's `name`")
	flags.StringVar(&s.revision, "revision", "", "the model's `revision`, only for a service that does not say it")
	flags.IntVar(&s.dimensions, "dimensions", 0, "ask for vectors of so `many` numbers; 0: as many as the model gives")
	flags.BoolVar(&s.truncate, "truncate", false, "cut off texts that are too long for the model, rather than refuse them")
	flags.Func("input", "a `path` of a .jsonl, .csv, .tsv or .parquet, or a folder of text files; may be repeated", func(path string) error {
		if slices.Contains(s.inputs, path) {
			return errors.New("it is named twice")
		}
		s.inputs = append(s.inputs, path)
		return nil
	})
	for _, kind := range []string{"field", "column"} {
		flags.StringVar(&s.records.Text, "text-"+kind, "text", "the `name` of the field or column with the text")
		flags.StringVar(&s.records.ID, "id-"+kind, "", "the `name` of that with the id; without it, an id is the line's number")
	}
	flags.IntVar(&s.records.MaxText, "max-text-bytes", 1<<20, "a longer text fails, in `bytes`")
	flags.IntVar(&s.records.MaxLine, "max-line-bytes", 16<<20, "a longer line fails, and a longer row of CSV ends all, in `bytes`")
	flags.StringVar(&s.output, "output", "", "the `folder` for the result, and for what a later start goes on with")
	flags.StringVar(&s.cache, "cache", "", "another `folder` for the vectors that are known, which several outputs may share")
	flags.StringVar(&s.format, "format", "npy", "of the result: npy, arrow or parquet")
	flags.IntVar(&s.concurrency, "concurrency", 4, "requests at once")
	flags.IntVar(&s.batchTexts, "batch", 64, "texts of a request, at most")
	flags.IntVar(&s.batchBytes, "batch-bytes", 256<<10, "bytes of texts of a request, unless one text has more")
	flags.DurationVar(&s.timeout, "timeout", 2*time.Minute, "for a request")
	flags.DurationVar(&s.patience, "patience", 15*time.Minute, "how long a service without room is waited for")
	flags.BoolVar(&s.allowDuplicates, "allow-duplicate-ids", false, "keep records whose ids are the same")
	flags.BoolVar(&s.retryRefused, "retry-refused", false, "ask once more for the texts that the service has refused")
	flags.Usage = func() {
		_, _ = io.WriteString(stderr, usage)
		flags.SetOutput(stderr)
		flags.PrintDefaults()
	}
	if err := flags.Parse(arguments); errors.Is(err, flag.ErrHelp) {
		return nil, errHelp
	} else if err != nil {
		return nil, usageError{err}
	}
	problems := s.check(flags.Args())
	if len(problems) > 0 {
		return nil, usageError{errors.Join(problems...)}
	}
	s.key, _ = environment("OPENAI_API_KEY")
	if keyFile != "" {
		content, err := os.ReadFile(keyFile)
		if err != nil {
			return nil, usageError{fmt.Errorf("--api-key-file: %w", err)}
		}
		s.key = strings.TrimSpace(string(content))
	}
	if strings.ContainsFunc(s.key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, usageError{errors.New("the API key has other characters than visible ASCII")}
	}
	if s.cache == "" {
		s.cache = s.output + "/cache"
	}
	return s, nil
}

func (s *settings) check(rest []string) (problems []error) {
	problem := func(format string, arguments ...any) { problems = append(problems, fmt.Errorf(format, arguments...)) }
	if len(rest) > 0 {
		problem("%q is no flag: inputs are named with --input", rest[0])
	}
	if len(s.inputs) == 0 {
		problem("--input is missing")
	}
	if s.output == "" {
		problem("--output is missing")
	}
	if s.model == "" {
		problem("--model is empty")
	}
	if s.records.Text == "" {
		problem("--text-field is empty")
	}
	if address, err := url.Parse(s.url); err != nil || address.Host == "" || (address.Scheme != "http" && address.Scheme != "https") {
		problem("--url %q is no URL, as in http://127.0.0.1:8080", s.url)
	}
	if formats := slices.Sorted(maps.Keys(output.Formats)); !slices.Contains(formats, s.format) {
		problem("--format %q is none of %s", s.format, strings.Join(formats, ", "))
	}
	for name, bound := range map[string]struct{ value, least, most int }{
		"dimensions": {s.dimensions, 0, 1 << 20}, "concurrency": {s.concurrency, 1, 1024}, "batch": {s.batchTexts, 1, 65536},
		"batch-bytes": {s.batchBytes, 1, 64 << 20}, "max-text-bytes": {s.records.MaxText, 1, 64 << 20},
		"max-line-bytes": {s.records.MaxLine, 1, 256 << 20},
	} {
		if bound.value < bound.least || bound.value > bound.most {
			problem("--%s %d is not from %d to %d", name, bound.value, bound.least, bound.most)
		}
	}
	if s.timeout <= 0 || s.patience <= 0 {
		problem("--timeout and --patience must be more than 0")
	}
	return problems
}
