package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"triptych.dev/gateway/internal/config"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 64 // EX_USAGE: arguments, environment or files are wrong; nothing was started
)

// terminal is what a command may use of the process it runs in.
type terminal struct {
	lookup         config.LookupEnv
	stdout, stderr io.Writer
}

type command struct {
	name, help string
	run        func(ctx context.Context, t terminal, arguments []string) error
}

var commands = []command{
	{"serve", "answer HTTP requests until SIGTERM; --check-config only checks settings and files", serve},
	{"keys create", "make an API key for --tenant and print it, once", createKey},
	{"keys init", "make a key for each tenant that never had one, and print them, once", initKeys},
	{"keys list", "print id, tenant, dates and scopes of every key, or of --tenant's", listKeys},
	{"keys rotate", "make a key in the place of the one with the id that follows, which ends after --overlap", rotateKey},
	{"keys revoke", "end the key with the id that follows", revokeKey},
	{"limits explain", "print the limits of --tenant, how much of them is used, and why it was refused lately", explainLimits},
	{"top", "show a running gateway, live: rates, limits that bind, hot paths; --once prints it as plain tables", showTop},
	{"jobs count", "print how many jobs of each queue are in each state, and since when", countJobs},
	{"jobs list", "print jobs, or those of --tenant, --queue or --state: who has them, and what went wrong", listJobs},
	{"jobs show", "print all that is known of the job with the id that follows", showJob},
	{"dlq list", "print jobs that were given up, with their last error", listDead},
	{"dlq show", "print all that is known of one of those", showDead},
	{"dlq replay", "make jobs that were given up ready again: those with the ids that follow, or --all", replayDead},
	{"dlq drop", "remove jobs that were given up, which nothing needs", dropDead},
	{"data migrate", "bring the database's schema up to date; the gateway does so too when it starts", migrateData},
	{"data check", "look for damage in the database", checkData},
	{"data backup", "copy the embedded database to the new file --to, also while a gateway runs", backupData},
	{"data restore", "put the backup --from in the place of the embedded database, while no gateway runs", restoreData},
	{"data copy", "copy the embedded database to the empty PostgreSQL database --to, while no gateway runs", copyData},
	{"healthcheck", "exit 0 if the gateway at --metrics-address is ready", healthcheck},
	{"config-docs", "print the table of settings in Markdown", configDocs},
}

// usageError is a mistake of whoever started us.
type usageError struct{ error }

// run is the program; it returns the exit status. It ends early when ctx does.
func run(ctx context.Context, arguments []string, lookup config.LookupEnv, stdout, stderr io.Writer) int {
	t := terminal{lookup, stdout, stderr}
	err := dispatch(ctx, t, arguments)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(stderr, "gateway: %s\n", strings.TrimSuffix(line, "\n"))
	}
	if _, usage := errors.AsType[usageError](err); usage {
		return exitUsage
	}
	return exitFailed
}

func dispatch(ctx context.Context, t terminal, arguments []string) error {
	for _, one := range commands {
		words := strings.Split(one.name, " ")
		if len(arguments) >= len(words) && slices.Equal(arguments[:len(words)], words) {
			return one.run(ctx, t, arguments[len(words):])
		}
	}
	var help strings.Builder
	help.WriteString("usage: gateway COMMAND [FLAGS]; gateway COMMAND -help lists its flags\n")
	for _, one := range commands {
		fmt.Fprintf(&help, "  %-12s %s\n", one.name, one.help)
	}
	switch strings.Join(arguments, " ") {
	case "-h", "-help", "--help", "help":
		_, err := io.WriteString(t.stdout, help.String())
		return err
	default:
		return usageError{errors.New(strings.TrimSuffix(help.String(), "\n"))}
	}
}

// parse reads the settings that a command has; flags may hold further ones of its own.
func (t terminal) parse(flags *flag.FlagSet, arguments []string, names ...string) (*config.Settings, error) {
	settings, err := config.Parse(flags, arguments, t.lookup, names...)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(t.stdout, "usage: gateway %s [FLAGS]\n", flags.Name())
		flags.SetOutput(t.stdout)
		flags.PrintDefaults()
		return nil, err
	case err != nil:
		return settings, usageError{err}
	default:
		return settings, nil
	}
}

// newFlags returns a silent flag set: run reports all faults together.
func newFlags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	return flags
}

func configDocs(_ context.Context, t terminal, arguments []string) error {
	flags := newFlags("config-docs")
	if err := flags.Parse(arguments); err != nil {
		return usageError{err}
	}
	return config.WriteMarkdown(t.stdout)
}
