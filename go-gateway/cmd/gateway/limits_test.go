package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"triptych.dev/gateway/internal/config"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

// peakMemory returns the most memory that a process ever had, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip("LOUD: that memory is bounded is NOT tested: ", err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if value, found := strings.CutPrefix(lines.Text(), "VmHWM:"); found {
			kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kilobytes << 10
		}
	}
	t.Skip("LOUD: this system does not tell how much memory a process ever had: that it is bounded is NOT tested")
	return 0
}

// TestMemoryIsBoundedByTheBytesOfBodies sends far more than fits at once, of the kinds of bodies that decode to the
// most.
func TestMemoryIsBoundedByTheBytesOfBodies(t *testing.T) {
	const clients, large, total = 64, 8 << 20, 128 << 20
	words := strings.Repeat("word ", large/5-100)
	texts := strings.TrimSuffix(strings.Repeat(`"`+strings.Repeat("a", 125)+`",`, 65536), ",")
	ids := strings.TrimSuffix(strings.Repeat("1,", large/2-100), ",")
	bodies := []string{
		`{"model":"` + testkit.ModelName + `","input":"` + words + `"}`,
		`{"model":"` + testkit.ModelName + `","input":[` + texts[:large-200-(large-200)%128-1] + `]}`,
		`{"model":"` + testkit.ModelName + `","tokenizer":"` + testkit.ModelName + `","input":[` + ids + `]}`,
	}
	site := newSite(t)
	key := site.createKey()
	site.hotpath.SetEmbed(func(ctx context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		if testkit.IsCanary(request) {
			return testkit.Embed(ctx, request)
		}
		time.Sleep(20 * time.Millisecond) // the work, so that requests meet
		return nil, testkit.Refusal("NO_REASON", "inputs", "too long")
	})
	// Built anew: the race detector would multiply what this test measures.
	child, log := site.start(buildGateway(t), "--max-total-body-bytes", strconv.Itoa(total))
	api := address(t, log, "http")
	var group sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for i := range clients {
		group.Go(func() {
			for range 3 {
				request, err := http.NewRequest(http.MethodPost, "http://"+api+"/v1/embeddings", strings.NewReader(bodies[i%len(bodies)]))
				if err != nil {
					t.Error(err)
					return
				}
				request.Header.Set("Authorization", "Bearer "+key)
				got := status(request)
				mu.Lock()
				statuses[got]++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	peak, limit := peakMemory(t, child.Process.Pid), memoryLimit(&config.Settings{MaxTotalBodyBytes: total}, 0)
	t.Logf("answers %v, at most %d MiB, limit %d MiB", statuses, peak>>20, limit>>20)
	if peak > limit*9/8 { // the limit is the collector's, and not all memory is
		t.Errorf("the gateway had %d MiB, with a limit of %d", peak>>20, limit>>20)
	}
	if statuses[http.StatusServiceUnavailable] == 0 || statuses[http.StatusInternalServerError] == 0 || statuses[0] > 0 {
		t.Errorf("this test proves nothing: the answers were %v", statuses)
	}
	http.DefaultClient.CloseIdleConnections()
}

// buildGateway makes the program as it is shipped.
func buildGateway(t *testing.T, flags ...string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "gateway")
	if out, err := exec.Command("go", append(append([]string{"build", "-o", program}, flags...), ".")...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

func TestTheLinkersVersionIsTold(t *testing.T) {
	out, err := exec.Command("go", "list", "../../internal/telemetry").Output()
	if err != nil {
		t.Fatal(err)
	}
	telemetry := strings.TrimSpace(string(out))
	site := newSite(t)
	site.createKey()
	_, log := site.start(buildGateway(t, "-ldflags=-X "+telemetry+".version=v1.2.3 -X "+telemetry+".revision=abc"))
	text := getText(address(t, log, "metrics"), "/metrics")
	if !strings.Contains(text, `revision="abc",version="v1.2.3"`) {
		t.Errorf("not in %s", text)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestConnectionsBeyondAnAddresssShareAreClosed(t *testing.T) {
	const most, share = 10, 7 // 8 are not kept for guarantees, and the seventh connection is no more than four times the 2 that are left
	site := newSite(t)
	site.createKey()
	g := site.serve("--max-connections", strconv.Itoa(most))
	api, operations := address(t, g.log, "http"), address(t, g.log, "metrics")
	ask := func() (net.Conn, error) {
		connection, err := net.Dial("tcp", api)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { connection.Close() })
		if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(connection, "GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n")
		got, err := http.ReadResponse(bufio.NewReader(connection), nil)
		if err == nil {
			_, err = io.Copy(io.Discard, got.Body)
		}
		return connection, err
	}
	var open []net.Conn
	for range share {
		connection, err := ask()
		if err != nil {
			t.Fatalf("connection %d: %v", len(open)+1, err)
		}
		open = append(open, connection)
	}
	var slow net.Error
	if _, err := ask(); err == nil || errors.As(err, &slow) && slow.Timeout() {
		t.Errorf("one more gets %v", err)
	}
	if got := get(operations, "/livez"); got != http.StatusOK {
		t.Errorf("the operators' listener: %d", got)
	}
	if text := getText(operations, "/metrics"); !strings.Contains(text, `gateway_refused_connections_total{listener="http"} 1`) {
		t.Error("the metrics do not tell of it")
	}
	open[0].Close()
	eventually(t, "the place of one that ended", func() bool { _, err := ask(); return err == nil })
}

func TestEachListenerOutlivesMoreConnectionsThanItHasRoomFor(t *testing.T) {
	const flood = 200 // more than operators have room for, too
	site := newSite(t)
	site.createKey()
	g := site.serve(append(site.adminFlags(), "--max-connections", "64")...)
	operations := address(t, g.log, "metrics")
	for _, listener := range []string{"http", "admin", "metrics"} {
		var open []net.Conn
		for range flood {
			connection, err := net.Dial("tcp", address(t, g.log, listener))
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, connection)
		}
		for _, connection := range open {
			connection.Close()
		}
		eventually(t, "the metrics tell of the "+listener+" listener's refusals", func() bool {
			return strings.Contains(getText(operations, "/metrics"), fmt.Sprintf("gateway_refused_connections_total{listener=%q}", listener))
		})
	}
	if got := get(address(t, g.log, "http"), "/livez"); got != http.StatusOK {
		t.Errorf("afterwards: %d", got)
	}
}
