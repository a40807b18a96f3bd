package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsServer is a process with streams on disk, which can be killed and started again.
type natsServer struct {
	t       *testing.T
	port    string
	folder  string
	options []string
	process *exec.Cmd
}

// natsProgram is built once, and kept where Go keeps what it builds.
var natsProgram = sync.OnceValues(func() (string, error) {
	told, err := exec.Command("go", "tool", "-n", "nats-server").Output()
	return strings.TrimSpace(string(told)), err
})

func startNATS(t *testing.T, options ...string) *natsServer {
	t.Helper()
	s := &natsServer{t: t, port: freePort(t), folder: t.TempDir(), options: options}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func (s *natsServer) url() string { return "nats://127.0.0.1:" + s.port }

func (s *natsServer) start() {
	s.t.Helper()
	program, err := natsProgram()
	if err != nil {
		s.t.Fatalf("nats-server: %v", err)
	}
	log := new(bytes.Buffer)
	s.process = exec.Command(program, append([]string{"-a", "127.0.0.1", "-p", s.port, "-js", "-sd", s.folder}, s.options...)...)
	s.process.Stderr = log
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, "nats-server listens", func() bool {
		connection, err := net.Dial("tcp", "127.0.0.1:"+s.port)
		if err == nil {
			_ = connection.Close()
		}
		return err == nil
	})
}

// kill ends it as a crash does.
func (s *natsServer) kill() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// client is a connection of the test's own.
func (s *natsServer) client(options ...nats.Option) jetstream.JetStream {
	s.t.Helper()
	connection, err := nats.Connect(s.url(), append(options, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(connection.Close)
	client, err := jetstream.New(connection)
	if err != nil {
		s.t.Fatal(err)
	}
	return client
}

// queue are the streams of a test: what is read, its results, its dead letters.
type queue struct {
	t                   *testing.T
	js                  jetstream.JetStream
	work, results, dead jetstream.Stream
}

func newQueue(t *testing.T, js jetstream.JetStream) *queue {
	t.Helper()
	q := &queue{t: t, js: js}
	for name, destination := range map[string]*jetstream.Stream{"WORK": &q.work, "RESULTS": &q.results, "DEAD": &q.dead} {
		config := jetstream.StreamConfig{Name: name, Subjects: []string{strings.ToLower(name) + ".>"}, MaxMsgs: 10000, Discard: jetstream.DiscardNew}
		if name == "WORK" {
			config.Retention = jetstream.WorkQueuePolicy
		}
		eventually(t, "JetStream is there", func() (made bool) {
			stream, err := js.CreateStream(t.Context(), config)
			*destination = stream
			return err == nil
		})
	}
	return q
}

// send publishes a message for a job with such a text, under an id.
func (q *queue) send(id, text string) error {
	message := nats.NewMsg("work.jobs")
	message.Data = fmt.Appendf(nil, `{"endpoint":"/v1/embeddings","body":{"model":"m","input":%q}}`, text)
	return q.sendMessage(message, id)
}

func (q *queue) sendMessage(message *nats.Msg, id string) error {
	ctx, cancel := context.WithTimeout(q.t.Context(), 5*time.Second)
	defer cancel()
	var options []jetstream.PublishOpt
	if id != "" {
		options = append(options, jetstream.WithMsgID(id))
	}
	_, err := q.js.PublishMsg(ctx, message, options...)
	return err
}

func (q *queue) mustSend(id, text string) {
	q.t.Helper()
	if err := q.send(id, text); err != nil {
		q.t.Fatal(err)
	}
}

func count(t *testing.T, stream jetstream.Stream) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	info, err := stream.Info(ctx)
	if err != nil {
		return -1
	}
	return int(info.State.Msgs)
}

// all are a stream's messages.
func all(t *testing.T, stream jetstream.Stream) (messages []*jetstream.RawStreamMsg) {
	t.Helper()
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for sequence := info.State.FirstSeq; sequence <= info.State.LastSeq; sequence++ {
		message, err := stream.GetMsg(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, message)
	}
	return messages
}

// eventually fails the test if something does not come about in a time that is no part of what is tested.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come about in a minute: %s", what)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

func fileWith(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func natsToken(token string) nats.Option { return nats.Token(token) }
