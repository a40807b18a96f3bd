package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"triptych.dev/gateway/internal/telemetry"
)

// asProgram has this test's program be the consumer, so that it can be killed.
const asProgram = "TEST_AS_CONSUMER"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		ctx, restore := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		context.AfterFunc(ctx, restore)
		os.Exit(run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// arguments are those of a consumer of the queue's stream, with short times.
func arguments(t *testing.T, server *natsServer, gateway string, more ...string) []string {
	t.Helper()
	return append([]string{
		"--nats-url", server.url(), "--stream", "WORK", "--dead-subject", "dead.letters", "--results-subject", "results.{job}",
		"--gateway-url", gateway, "--api-key-file", fileWith(t, testKey+"\n"), "--metrics-address", "127.0.0.1:0",
		"--ack-wait", "1s", "--concurrency", "4", "--log-level", "debug",
	}, more...)
}

// process is a consumer of its own.
type process struct {
	*exec.Cmd
	log *buffer
}

func startProcess(t *testing.T, arguments []string) *process {
	t.Helper()
	p := &process{exec.Command(os.Args[0], arguments...), new(buffer)}
	p.Env = append(os.Environ(), asProgram+"=1")
	p.Stderr = p.log
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("a consumer's log:\n%s", p.log)
		}
	})
	return p
}

func (p *process) kill() {
	_ = p.Process.Kill()
	_ = p.Wait()
}

// inside is a consumer in the test's process.
type inside struct {
	*consumer
	stop  context.CancelFunc
	ended chan error
	log   *buffer
}

func startInside(t *testing.T, arguments []string, changes ...func(*consumer)) *inside {
	t.Helper()
	settings, err := parse(new(settings).table().NewFlags(), arguments, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	in := &inside{ended: make(chan error, 1), log: new(buffer)}
	if in.consumer, err = newConsumer(settings, telemetry.NewLogger(in.log, settings.logLevel)); err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		change(in.consumer)
	}
	var ctx context.Context
	ctx, in.stop = context.WithCancel(context.WithoutCancel(t.Context()))
	go func() { in.ended <- in.run(ctx); close(in.ended) }()
	t.Cleanup(func() {
		in.stop()
		<-in.ended
		if t.Failed() {
			t.Logf("the consumer's log:\n%s", in.log)
		}
	})
	return in
}

// drained stops it, and says how long that took.
func (in *inside) drained(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	in.stop()
	if err := <-in.ended; err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// buffer is a log that is read while it is written.
type buffer struct {
	mutex sync.Mutex
	bytes bytes.Buffer
}

var _ io.Writer = (*buffer)(nil)

func (b *buffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.bytes.Write(p)
}

func (b *buffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.bytes.String()
}
