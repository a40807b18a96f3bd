package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"
)

func parsed(arguments string, environment map[string]string) (*settings, error) {
	return parse(new(settings).table().NewFlags(), strings.Fields(arguments), func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	})
}

func TestAFlagBeatsTheEnvironment(t *testing.T) {
	s, err := parsed("--stream A --dead-subject d --api-key-file k --concurrency 3",
		map[string]string{"CONSUMER_CONCURRENCY": "nonsense", "CONSUMER_ACK_WAIT": "7s", "CONSUMER_STREAM": "B"})
	if err != nil || s.stream != "A" || s.concurrency != 3 || s.ackWait != 7*time.Second {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestAllFaultsOfSettingsAreToldTogether(t *testing.T) {
	_, err := parsed("--nats-url http://a --gateway-url https://u:hunter2@h --concurrency 0 --ack-wait 5 --consumer a.b --nats-user u "+
		"--nats-token-file t --results-subject r.* rest", nil)
	if err == nil {
		t.Fatal("no fault")
	}
	for _, part := range []string{
		"--nats-url", "--gateway-url (CONSUMER_GATEWAY_URL)", "--concurrency", "--ack-wait", "--consumer", "--stream", "--dead-subject",
		"--api-key-file", "--nats-password-file", "give one of them", "--results-subject", `"rest"`,
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("nothing of %s in: %v", part, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Error("a password is told")
	}
}

func TestTheDocumentHasTheSettings(t *testing.T) {
	document, err := os.ReadFile("../../../docs/consumers.md")
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	if err := new(settings).table().WriteMarkdown(&table); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(document, table.Bytes()) {
		t.Errorf("docs/consumers.md must have the table that `consumer --config-docs` prints:\n%s", &table)
	}
}

func TestKeyOf(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, c := range []struct{ id, want string }{
		{"order-1", "order-1"}, {"", "WORK.17.5"}, {"a b", "a b"}, {strings.Repeat("x", 255), strings.Repeat("x", 255)},
		{long, "sha256."}, {"ümlaut", "sha256."}, {" space", "sha256."}, {"a\x00", "sha256."},
	} {
		got := keyOf(c.id, "WORK.17", 5)
		if got != c.want && (c.want != "sha256." || len(got) != 71 || !strings.HasPrefix(got, c.want)) {
			t.Errorf("the key of %.20q is %q", c.id, got)
		}
		if again := keyOf(c.id, "WORK.17", 5); again != got {
			t.Errorf("%q is another one each time", c.id)
		}
	}
}

func TestSlots(t *testing.T) {
	s := newSlots(3)
	if got := s.take(t.Context()); got != 3 {
		t.Errorf("%d of 3", got)
	}
	go s.free(1)
	if got := s.take(t.Context()); got != 1 {
		t.Errorf("%d of the one that is free", got)
	}
}
