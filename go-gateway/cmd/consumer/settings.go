package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// settings are the consumer's. Each is a flag and a variable of the environment.
type settings struct {
	natsURL, natsCredentials, natsUser, natsPasswordFile, natsTokenFile string
	natsCA, natsCertificate, natsKey                                    string

	stream, consumer, filter string
	ackWait                  time.Duration
	maxAckPending            int
	maxDeliveries            int
	maxMessageBytes          int

	gatewayURL, gatewayCA, keyFile string
	concurrency                    int

	results, dead string

	metricsAddress string
	drainTimeout   time.Duration
	logLevel       slog.Level
}

// setting is a row of the table.
type setting struct {
	name, unit, value string // value: the default
	meaning           string
	parse             func(string) error
	show              func() string
}

func (s setting) env() string {
	return "CONSUMER_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

func (s *settings) table() []setting {
	return []setting{
		address("nats-url", "URL,…", "nats://127.0.0.1:4222", &s.natsURL, []string{"nats", "tls", "ws", "wss"},
			"Servers of one cluster, with commas between. `tls://` has it encrypted. No password belongs here: it would be in the list of processes."),
		text("nats-creds-file", "path", "", &s.natsCredentials, "Credentials (JWT and seed), read at each connection."),
		text("nats-user", "text", "", &s.natsUser, "User, with `nats-password-file`."),
		text("nats-password-file", "path", "", &s.natsPasswordFile, "File with that user's password, read at each connection."),
		text("nats-token-file", "path", "", &s.natsTokenFile, "File with a token instead, read at each connection."),
		text("nats-ca-file", "path", "", &s.natsCA, "Certificates in PEM that vouch for the NATS server, in place of the system's."),
		text("nats-cert-file", "path", "", &s.natsCertificate, "Our own certificate for it, with `nats-key-file`."),
		text("nats-key-file", "path", "", &s.natsKey, "That certificate's key."),
		required("stream", "name", &s.stream, "The stream that is read. It has to be there: its limits are yours to choose."),
		name("consumer", "triptych", &s.consumer, "The durable pull consumer. All processes that name the same one share its messages. It is made where it is missing."),
		text("filter-subject", "subject", "", &s.filter, "What the consumer has of the stream, if it is made here; empty: all."),
		duration("ack-wait", 30*time.Second, time.Second, time.Hour, &s.ackWait,
			"How long after its process has died a message is delivered again, if the consumer is made here. A process that lives asks for more time every third of it."),
		number("max-ack-pending", 1000, 1, 1_000_000, &s.maxAckPending,
			"Messages that all processes have at once, if the consumer is made here: at least `concurrency` of all together."),
		number("max-deliveries", 10, 1, 1_000_000, &s.maxDeliveries,
			"A message that is delivered more often is a dead letter. Only deaths and stops of processes and failed dead letters count: while the gateway is away a message keeps its delivery."),
		number("max-message-bytes", 1<<20, 1, 64<<20, &s.maxMessageBytes, "A larger message is a dead letter."),
		address("gateway-url", "URL", "http://127.0.0.1:8080", &s.gatewayURL, []string{"http", "https"}, "The gateway, or what is before several."),
		text("gateway-ca-file", "path", "", &s.gatewayCA, "Certificates in PEM that vouch for it, in place of the system's."),
		required("api-key-file", "path", &s.keyFile, "File with the API key. It is read again when the gateway does not know the key."),
		number("concurrency", 16, 1, 1024, &s.concurrency, "Messages that this process has at once. It fetches as many as it has room for, and no more."),
		text("results-subject", "subject", "", &s.results,
			"Where completed jobs are published, which a stream has to keep; `{job}` is the job's id, `{subject}` that of the message. Empty: results are in the jobs alone, which are kept for a time."),
		required("dead-subject", "subject", &s.dead, "Where messages go that cannot be done, which another stream has to keep."),
		address("metrics-address", "host:port", "127.0.0.1:9465", &s.metricsAddress, nil, "For `/livez`, `/readyz` and `/metrics`."),
		duration("drain-timeout", 30*time.Second, 0, time.Hour, &s.drainTimeout,
			"After SIGTERM, how long what runs may take to end. The rest is given back, and delivered to another process at once."),
		logLevel("log-level", &s.logLevel, "debug, info, warn or error."),
	}
}

// writeMarkdown writes the table of docs/consumers.md.
func writeMarkdown(out io.Writer) error {
	var table strings.Builder
	table.WriteString("| flag | environment | default | unit | meaning |\n|---|---|---|---|---|\n")
	for _, row := range new(settings).table() {
		shown := "(empty)"
		if row.value != "" {
			shown = "`" + row.value + "`"
		}
		fmt.Fprintf(&table, "| `--%s` | `%s` | %s | %s | %s |\n", row.name, row.env(), shown, row.unit, row.meaning)
	}
	_, err := io.WriteString(out, table.String())
	return err
}

func newFlags() *flag.FlagSet {
	flags := flag.NewFlagSet("consumer", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	return flags
}

// parse reads all settings, and reports all faults together. A flag beats the environment.
func parse(flags *flag.FlagSet, arguments []string, lookup func(string) (string, bool)) (*settings, error) {
	s := new(settings)
	table := s.table()
	values, err := gather(flags, table, arguments, lookup)
	if err != nil {
		return nil, err
	}
	return s, errors.Join(assign(flags, table, values), s.check())
}

// gather takes the values of settings from flags, the environment and defaults, by name.
func gather(flags *flag.FlagSet, rows []setting, arguments []string, lookup func(string) (string, bool)) (map[string]string, error) {
	values := map[string]string{}
	for _, row := range rows {
		values[row.name] = row.value
		if value, ok := lookup(row.env()); ok {
			values[row.name] = value
		}
		usage := strings.ReplaceAll(row.meaning, "`", "") + fmt.Sprintf("\n`%s`, default %q, or %s", row.unit, row.value, row.env())
		flags.Func(row.name, usage, func(value string) error {
			values[row.name] = value
			return nil
		})
	}
	return values, flags.Parse(arguments)
}

// assign gives settings their values, and reports all faults together, what else is on the command line too.
func assign(flags *flag.FlagSet, rows []setting, values map[string]string) error {
	var faults []error
	if flags.NArg() > 0 {
		faults = append(faults, fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	}
	for _, row := range rows {
		if err := row.parse(values[row.name]); err != nil {
			faults = append(faults, fmt.Errorf("--%s (%s): %w", row.name, row.env(), err))
		}
	}
	return errors.Join(faults...)
}

var subject = regexp.MustCompile(`^[^\s.*>]+(\.[^\s.*>]+)*$`)

func (s *settings) check() error {
	var faults []error
	both := func(one, other, names string) {
		if (one == "") != (other == "") {
			faults = append(faults, fmt.Errorf("%s: give both or none", names))
		}
	}
	both(s.natsUser, s.natsPasswordFile, "--nats-user and --nats-password-file")
	both(s.natsCertificate, s.natsKey, "--nats-cert-file and --nats-key-file")
	ways := 0
	for _, given := range []string{s.natsCredentials, s.natsUser, s.natsTokenFile} {
		if given != "" {
			ways++
		}
	}
	if ways > 1 {
		faults = append(faults, errors.New("--nats-creds-file, --nats-user and --nats-token-file: give one of them"))
	}
	if s.dead != "" && !subject.MatchString(s.dead) {
		faults = append(faults, fmt.Errorf("--dead-subject: %q is no subject to publish to", s.dead))
	}
	if s.results != "" && !subject.MatchString(s.resultSubject("job", "subject")) {
		faults = append(faults, fmt.Errorf("--results-subject: %q is no subject to publish to", s.results))
	}
	return errors.Join(faults...)
}

const jobPlace, subjectPlace = "{job}", "{subject}" // in results-subject

// resultSubject is where a job's result is published.
func (s *settings) resultSubject(job, subject string) string {
	return strings.NewReplacer(jobPlace, job, subjectPlace, subject).Replace(s.results)
}

// values are the settings in force, for the log.
func (s *settings) values() map[string]string {
	values := map[string]string{}
	for _, row := range s.table() {
		values[strings.ReplaceAll(row.name, "-", "_")] = row.show()
	}
	return values
}

func text(name, unit, value string, destination *string, meaning string) setting {
	return setting{name, unit, value, meaning, func(given string) error {
		*destination = given
		return nil
	}, func() string { return *destination }}
}

func required(name, unit string, destination *string, meaning string) setting {
	row := text(name, unit, "", destination, meaning)
	row.parse = func(given string) error {
		*destination = given
		if given == "" {
			return errors.New("it is missing")
		}
		return nil
	}
	return row
}

// name is of what NATS keeps under a name.
func name(name, value string, destination *string, meaning string) setting {
	row := text(name, "name", value, destination, meaning)
	row.parse = func(given string) error {
		*destination = given
		if given == "" || strings.ContainsAny(given, " \t\r\n.*>/\\") {
			return fmt.Errorf("%q must be a name without spaces and none of . * > / \\", given)
		}
		return nil
	}
	return row
}

// address is one or several URLs of these schemes, or host:port where there are none.
func address(name, unit, value string, destination *string, schemes []string, meaning string) setting {
	row := text(name, unit, value, destination, meaning)
	row.parse = func(given string) error {
		*destination = given
		if schemes == nil {
			if _, _, err := net.SplitHostPort(given); err != nil {
				return fmt.Errorf("%q must be host:port", given)
			}
			return nil
		}
		for one := range strings.SplitSeq(given, ",") {
			parsed, err := url.Parse(one)
			if err != nil || parsed.Host == "" || !strings.Contains(","+strings.Join(schemes, ",")+",", ","+parsed.Scheme+",") {
				return fmt.Errorf("must be as %s://host:port", schemes[0]) // it may have a password, and is not quoted
			}
			if parsed.User != nil {
				return errors.New("must have no user nor password: there are files for them")
			}
		}
		return nil
	}
	return row
}

func number(name string, value, least, most int, destination *int, meaning string) setting {
	return setting{name, "number", strconv.Itoa(value), meaning, func(given string) error {
		parsed, err := strconv.Atoi(given)
		if err != nil || parsed < least || parsed > most {
			return fmt.Errorf("%q must be a whole number from %d to %d", given, least, most)
		}
		*destination = parsed
		return nil
	}, func() string { return strconv.Itoa(*destination) }}
}

func duration(name string, value, least, most time.Duration, destination *time.Duration, meaning string) setting {
	return setting{name, "duration", value.String(), meaning, func(given string) error {
		parsed, err := time.ParseDuration(given)
		if err != nil || parsed < least || parsed > most {
			return fmt.Errorf("%q must be a duration from %v to %v", given, least, most)
		}
		*destination = parsed
		return nil
	}, func() string { return destination.String() }}
}

func logLevel(name string, destination *slog.Level, meaning string) setting {
	return setting{name, "level", "info", meaning, func(given string) error {
		if err := destination.UnmarshalText([]byte(given)); err != nil {
			return fmt.Errorf("%q must be debug, info, warn or error", given)
		}
		return nil
	}, func() string { return strings.ToLower(destination.String()) }}
}
