package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"time"

	"triptych.dev/gateway/internal/command"
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

// table has them all.
func (s *settings) table() command.Table {
	return command.Table{Program: "consumer", Rows: []command.Setting{
		urls("nats-url", "URL,…", "nats://127.0.0.1:4222", &s.natsURL, []string{"nats", "tls", "ws", "wss"},
			"Servers of one cluster, with commas between. `tls://` has it encrypted. No password belongs here: it would be in the list of processes."),
		command.Text("nats-creds-file", "path", "", &s.natsCredentials, "Credentials (JWT and seed), read at each connection."),
		command.Text("nats-user", "text", "", &s.natsUser, "User, with `nats-password-file`."),
		command.Text("nats-password-file", "path", "", &s.natsPasswordFile, "File with that user's password, read at each connection."),
		command.Text("nats-token-file", "path", "", &s.natsTokenFile, "File with a token instead, read at each connection."),
		command.Text("nats-ca-file", "path", "", &s.natsCA, "Certificates in PEM that vouch for the NATS server, in place of the system's."),
		command.Text("nats-cert-file", "path", "", &s.natsCertificate, "Our own certificate for it, with `nats-key-file`."),
		command.Text("nats-key-file", "path", "", &s.natsKey, "That certificate's key."),
		required("stream", "name", &s.stream, "The stream that is read. It has to be there: its limits are yours to choose."),
		name("consumer", "triptych", &s.consumer, "The durable pull consumer. All processes that name the same one share its messages. It is made where it is missing."),
		command.Text("filter-subject", "subject", "", &s.filter, "What the consumer has of the stream, if it is made here; empty: all."),
		command.Duration("ack-wait", 30*time.Second, time.Second, time.Hour, &s.ackWait,
			"How long after its process has died a message is delivered again, if the consumer is made here. A process that lives asks for more time every third of it."),
		number("max-ack-pending", 1000, 1, 1_000_000, &s.maxAckPending,
			"Messages that all processes have at once, if the consumer is made here: at least `concurrency` of all together."),
		number("max-deliveries", 10, 1, 1_000_000, &s.maxDeliveries,
			"A message that is delivered more often is a dead letter. Only deaths and stops of processes and failed dead letters count: while the gateway is away a message keeps its delivery."),
		number("max-message-bytes", 1<<20, 1, 64<<20, &s.maxMessageBytes, "A larger message is a dead letter."),
		urls("gateway-url", "URL", "http://127.0.0.1:8080", &s.gatewayURL, []string{"http", "https"}, "The gateway, or what is before several."),
		command.Text("gateway-ca-file", "path", "", &s.gatewayCA, "Certificates in PEM that vouch for it, in place of the system's."),
		required("api-key-file", "path", &s.keyFile, "File with the API key. It is read again when the gateway does not know the key."),
		number("concurrency", 16, 1, 1024, &s.concurrency, "Messages that this process has at once. It fetches as many as it has room for, and no more."),
		command.Text("results-subject", "subject", "", &s.results,
			"Where completed jobs are published, which a stream has to keep; `{job}` is the job's id, `{subject}` that of the message. Empty: results are in the jobs alone, which are kept for a time."),
		required("dead-subject", "subject", &s.dead, "Where messages go that cannot be done, which another stream has to keep."),
		command.HostPort("metrics-address", "127.0.0.1:9465", &s.metricsAddress, "For `/livez`, `/readyz` and `/metrics`."),
		command.Duration("drain-timeout", 30*time.Second, 0, time.Hour, &s.drainTimeout,
			"After SIGTERM, how long what runs may take to end. The rest is given back, and delivered to another process at once."),
		command.LogLevel("log-level", &s.logLevel, "debug, info, warn or error."),
	}}
}

// parse reads all settings, and reports all faults together. A flag beats the environment.
func parse(flags *flag.FlagSet, arguments []string, lookup command.Lookup) (*settings, error) {
	s := new(settings)
	err := s.table().Parse(flags, arguments, lookup, s.check)
	return s, err
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

func required(name, unit string, destination *string, meaning string) command.Setting {
	row := command.Text(name, unit, "", destination, meaning)
	row.Parse = func(given string) error {
		*destination = given
		if given == "" {
			return errors.New("it is missing")
		}
		return nil
	}
	return row
}

// name is of what NATS keeps under a name.
func name(name, value string, destination *string, meaning string) command.Setting {
	row := command.Text(name, "name", value, destination, meaning)
	row.Parse = func(given string) error {
		*destination = given
		if given == "" || strings.ContainsAny(given, " \t\r\n.*>/\\") {
			return fmt.Errorf("%q must be a name without spaces and none of . * > / \\", given)
		}
		return nil
	}
	return row
}

// urls is one or several of these schemes.
func urls(name, unit, value string, destination *string, schemes []string, meaning string) command.Setting {
	row := command.Text(name, unit, value, destination, meaning)
	row.Parse = func(given string) error {
		*destination = given
		for one := range strings.SplitSeq(given, ",") {
			if err := command.CheckURL(one, schemes); err != nil {
				return err
			}
		}
		return nil
	}
	return row
}

func number(name string, value, least, most int, destination *int, meaning string) command.Setting {
	return command.Setting{Name: name, Unit: "number", Default: strconv.Itoa(value), Meaning: meaning, Parse: func(given string) error {
		parsed, err := strconv.Atoi(given)
		if err != nil || parsed < least || parsed > most {
			return fmt.Errorf("%q must be a whole number from %d to %d", given, least, most)
		}
		*destination = parsed
		return nil
	}, Show: func() string { return strconv.Itoa(*destination) }}
}
