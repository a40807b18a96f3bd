package batch

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"triptych.dev/gateway/internal/blob"
	"triptych.dev/gateway/internal/queue"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/quota/redisstore"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/testkit"
)

// asWorker is the variable that has the test binary be a worker process instead: one that runs batches.
const asWorker = "TEST_RUN_AS_WORKER"

var postgres testkit.SharedPostgres

// task is what a worker process is told, as JSON in its environment.
type task struct {
	Store store.Options
	Blobs string
	Redis string // empty: limits are kept in memory
	Lease time.Duration
	Think time.Duration // how long a line takes on average
}

const quotaLease = time.Second

// limitsOf are where a process keeps what is used of its limits.
func limitsOf(redis string) (quota.Store, func(context.Context), error) {
	if redis == "" {
		return quota.NewMemory(time.Now, quotaLease), func(context.Context) {}, nil
	}
	shared, err := redisstore.New(redisstore.Options{URL: redis, Lease: quotaLease, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, err
	}
	failover := quota.NewFailover(shared, time.Now, 2, func(bool, error) {})
	return failover, failover.Watch, nil
}

var daily = [quota.Scopes]quota.Limits{{TokensPerDay: 1 << 30, ConcurrentRequests: 1000}, {TokensPerDay: 1 << 30}}

// costOf is what a line is said to use.
func costOf(body []byte) int64 { return int64(crc32.ChecksumIEEE(body)%50) + 1 }

// work is a worker process. It serves lines by thinking, and says again and again what is charged of the day.
func work() {
	must := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	var told task
	must(json.Unmarshal([]byte(os.Getenv(asWorker)), &told))
	ctx := context.Background()
	kept, err := store.Open(ctx, told.Store, store.Gateway)
	must(err)
	blobs, err := blob.OpenFolder(told.Blobs)
	must(err)
	if !told.Store.Postgres() {
		must(blobs.DropTemporaries()) // of who was here before
	}
	used, watch, err := limitsOf(told.Redis)
	must(err)
	limiter := quota.NewLimiter(used, time.Now)
	b := batchesOf(kept, blobs, time.Now, limiter)
	b.lease, b.segmentTime = told.Lease, 50*time.Millisecond
	b.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	b.Observer = observer{}
	go watch(ctx)
	go limiter.Watch(ctx)
	go b.Charges.Watch(ctx)
	go b.Turns.Watch(ctx)
	go func() {
		for ; ; time.Sleep(20 * time.Millisecond) {
			found, err := used.Look(ctx, quota.Request{Tenant: "acme", Key: "key", Class: quota.Batch, Limits: daily})
			must(err)
			fmt.Printf("day %d %d\n", found.States[quota.Tenant].DayTokens, found.States[quota.Key].DayTokens)
		}
	}()
	fmt.Println("open")
	b.Watch(ctx, func(_ context.Context, request Request) Reply {
		if bytes.Contains(request.Body, []byte("poison")) {
			fmt.Println("poisoned")
			os.Exit(3)
		}
		cost := costOf(request.Body)
		held, decision, err := limiter.Reserve(ctx, quota.Request{
			ID: rand.Text(), Tenant: "acme", Key: "key", Class: quota.Batch, Limits: daily, Runs: true, MinTokens: 1, MaxTokens: 60, Pending: request.Pending,
		})
		must(err)
		if decision.Refusal != nil {
			must(errors.New("refused"))
		}
		time.Sleep(time.Duration(mathrand.ExpFloat64() * float64(told.Think)))
		held.Settle(cost)
		reply := good(ctx, request)
		reply.Tokens = store.BatchTokens{Input: cost - cost/2, Output: cost / 2}
		return reply
	})
}

// observer says when a job was refused.
type observer struct{}

func (observer) Counted(string, map[string]int) {}

func (observer) Ended(_, outcome string, _ time.Duration) {
	if outcome == queue.Lost {
		fmt.Println("refused")
	}
}

// process is a worker process.
type process struct {
	t       *testing.T
	command *exec.Cmd
	said    testkit.Log
}

func start(t *testing.T, told task) *process {
	t.Helper()
	encoded, err := json.Marshal(told)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, command: exec.Command(os.Args[0])}
	p.command.Env = append(os.Environ(), asWorker+"="+string(encoded))
	p.command.Stdout, p.command.Stderr = &p.said, &p.said
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	eventually(t, "a worker opens the store", func() bool { return strings.Contains(p.said.String(), "open\n") })
	return p
}

// kill ends it as a crash of the system would, if it still runs.
func (p *process) kill() {
	_ = p.command.Process.Signal(syscall.SIGCONT)
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}

func (p *process) signal(which syscall.Signal) {
	p.t.Helper()
	if err := p.command.Process.Signal(which); err != nil {
		p.t.Fatalf("%v\n%s", err, &p.said)
	}
}

// charged is what of the day is charged or held by now, to tenant and key.
func (p *process) charged() (tenant, key int64) {
	p.t.Helper()
	already := len(p.said.String())
	said := ""
	eventually(p.t, "a worker says what is charged", func() bool {
		said = p.said.String()
		return strings.Count(said[already:], "\nday ") >= 2
	})
	said = said[:strings.LastIndexByte(said, '\n')]
	if _, err := fmt.Sscanf(said[strings.LastIndex(said, "day "):], "day %d %d", &tenant, &key); err != nil {
		p.t.Fatal(err)
	}
	return tenant, key
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain it was waited that %s", what)
		}
	}
}

// startRedis starts a redis-server, and returns its URL.
func startRedis(t *testing.T) string {
	t.Helper()
	program := testkit.RedisServerProgram(t)
	socket := filepath.Join(t.TempDir(), "redis")
	server := exec.Command(program, "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sync.OnceFunc(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}))
	eventually(t, "Redis listens", func() bool {
		connection, err := net.Dial("unix", socket)
		if err == nil {
			connection.Close()
		}
		return err == nil
	})
	return "unix://" + socket
}
