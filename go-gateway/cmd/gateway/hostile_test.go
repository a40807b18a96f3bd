package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"triptych.dev/gateway/internal/testkit"
)

// What the gateway of these tests gives a connection; shorter than the defaults, so that the tests are short.
const (
	hostileTimeout = time.Second     // for a handshake, for headers and for bodies
	hostileIdle    = 2 * time.Second // without a request
	// closedWithin is after how long the connection of each attack is closed, on a busy machine: a timeout for the body, one
	// without a request, and in HTTP/2 up to a second after it.
	closedWithin = 15 * time.Second
	// pace is between two bytes of those that are slow.
	pace = 20 * time.Millisecond
)

// Beside all attacks at once.
const (
	bystanderP50   = 500 * time.Millisecond
	bystanderP99   = 5 * time.Second // on a machine whose two cores are busy with the attacks, and with other tests
	mostMemory     = 256 << 20       // bytes that the gateway ever had
	attackersEach  = 1               // connections of each attack
	leakTolerance  = 8               // goroutines, and files
	resetsAreOver  = 2 * time.Second
	manyStreams    = 10_000
	someBystanders = 4
)

// attack is what one connection does. It returns what ended that.
type attack func(c *certified, address string) error

// attacks are those by name. Each goes on until the gateway ends its connection.
var attacks = map[string]attack{
	"PING": func(c *certified, address string) error {
		return c.flood(address, true, func(f *frames) error { return f.WritePing(false, [8]byte{}) })
	},
	"PING without reading the answers": func(c *certified, address string) error {
		return c.flood(address, false, func(f *frames) error { return f.WritePing(false, [8]byte{}) })
	},
	"SETTINGS": func(c *certified, address string) error {
		return c.flood(address, true, func(f *frames) error { return f.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}) })
	},
	"SETTINGS without reading the answers": func(c *certified, address string) error {
		return c.flood(address, false, func(f *frames) error { return f.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}) })
	},
	"PRIORITY": func(c *certified, address string) error {
		return c.flood(address, true, func(f *frames) error { return f.WritePriority(1, http2.PriorityParam{Weight: 15}) })
	},
	"CONTINUATION": func(c *certified, address string) error {
		more := slices.Repeat([]byte("\x00\x01x\x01y"), 2000) // a field "x: y", many times
		return c.continued(address, func(f *frames) error { return f.WriteContinuation(1, false, more) })
	},
	"empty CONTINUATION": func(c *certified, address string) error {
		return c.continued(address, func(f *frames) error { return f.WriteContinuation(1, false, nil) })
	},
	"CONTINUATION byte by byte": func(c *certified, address string) error {
		return c.continued(address, func(f *frames) error {
			time.Sleep(pace)
			return errors.Join(f.WriteContinuation(1, false, []byte{0}), f.flush())
		})
	},
	"RST_STREAM": func(c *certified, address string) error {
		over := time.Now().Add(resetsAreOver)
		return c.flood(address, true, func(f *frames) error {
			stream, err := f.head(c.key)
			if err == nil {
				err = f.WriteRSTStream(stream, http2.ErrCodeCancel)
			}
			if err == nil && time.Now().After(over) { // the gateway keeps up with it: then it need not end it
				err = io.EOF
			}
			return err
		})
	},
	"streams without a body": func(c *certified, address string) error {
		return c.flood(address, true, func(f *frames) error {
			if f.next > 2*manyStreams {
				time.Sleep(pace)
				return errors.Join(f.WritePing(false, [8]byte{}), f.flush()) // only the end is waited for
			}
			_, err := f.head(c.key)
			return err
		})
	},
	"a frame byte by byte": func(c *certified, address string) error {
		f := c.frames(address)
		defer f.connection.Close()
		return dribble(f.connection, "\x00\x01\x00\x01\x04\x00\x00\x00\x01"+strings.Repeat("\x00", 200))
	},
	"a body byte by byte in HTTP/2": func(c *certified, address string) error {
		return c.flood(address, true, func(f *frames) error {
			if f.next == 1 {
				if _, err := f.head(c.key); err != nil {
					return err
				}
			}
			time.Sleep(pace)
			return errors.Join(f.WriteData(1, false, []byte("[")), f.flush())
		})
	},
	"headers byte by byte in HTTP/1.1": func(c *certified, address string) error {
		connection, err := tls.Dial("tcp", address, testkit.Client(c.pair))
		if err != nil {
			return err
		}
		defer connection.Close()
		return dribble(connection, "GET /livez HTTP/1.1\r\nHost: gateway\r\nX-Long: "+strings.Repeat("x", 1000))
	},
	"a body byte by byte in HTTP/1.1": func(c *certified, address string) error {
		connection, err := tls.Dial("tcp", address, testkit.Client(c.pair))
		if err != nil {
			return err
		}
		defer connection.Close()
		fmt.Fprintf(connection, "POST /v1/embeddings HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\n", c.key)
		return dribble(connection, strings.Repeat("[", 1000))
	},
	"a handshake byte by byte": func(_ *certified, address string) error {
		connection, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer connection.Close()
		return dribble(connection, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"+strings.Repeat("\x00", 1000))
	},
}

// flood writes until that fails; answers are read behind its back, or not at all.
func (c *certified) flood(address string, reads bool, write func(f *frames) error) error {
	f := c.frames(address)
	defer f.connection.Close()
	f.buffer()
	if err := f.connection.SetDeadline(time.Now().Add(2 * closedWithin)); err != nil {
		return err
	}
	if reads {
		go func() { _, _ = io.Copy(io.Discard, f.connection) }()
	}
	for {
		if err := write(f); err != nil {
			return err
		}
	}
}

// continued floods with what goes on with a request's headers.
func (c *certified) continued(address string, write func(f *frames) error) error {
	began := false
	return c.flood(address, true, func(f *frames) error {
		if began {
			return write(f)
		}
		began = true
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x83}}) // ":method: POST"
	})
}

// dribble writes byte by byte, and returns why that ended. It is the end, too, when the other side has closed.
func dribble(connection net.Conn, text string) error {
	closed := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, connection)
		closed <- errors.Join(err, io.EOF)
	}()
	for _, letter := range []byte(text) {
		select {
		case err := <-closed:
			return err
		case <-time.After(pace):
		}
		if _, err := connection.Write([]byte{letter}); err != nil {
			return err
		}
	}
	return nil // it was never closed
}

// gauge reads one number of the metrics.
func gauge(t *testing.T, operations, name string) float64 {
	t.Helper()
	found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(getText(operations, "/metrics"))
	if found == nil {
		t.Fatalf("there is no metric %s", name)
	}
	value, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// TestHostileConnectionsHurtNobodyElse has them all at once, and somebody beside them.
func TestHostileConnectionsHurtNobodyElse(t *testing.T) {
	site := newCertified(t)
	child, log := site.start(buildGateway(t), site.flags("--header-timeout", hostileTimeout.String(), "--body-timeout", hostileTimeout.String(),
		"--idle-timeout", hostileIdle.String())...)
	api, operations := address(t, log, "http"), address(t, log, "metrics")
	other := client(t, 1, site.pair)
	eventually(t, "ready", func() bool { _, err := embedBy(other, api, site.key); return err == nil })
	held := []string{"go_goroutines", "process_open_fds"}
	before := map[string]float64{}
	for _, name := range held {
		before[name] = gauge(t, operations, name)
	}

	over := make(chan struct{})
	var lock sync.Mutex
	var waits []time.Duration
	var bystanders sync.WaitGroup
	for i := range someBystanders {
		own := client(t, 1+i%2, site.pair)
		bystanders.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				began := time.Now()
				_, err := embedBy(own, api, site.key)
				lock.Lock()
				waits = append(waits, time.Since(began))
				lock.Unlock()
				if err != nil {
					t.Errorf("a bystander: %v", err)
				}
			}
		})
	}
	var attackers sync.WaitGroup
	for name, run := range attacks {
		for range attackersEach {
			attackers.Go(func() {
				began := time.Now()
				err := run(site, api)
				took := time.Since(began)
				if timeout, is := errors.AsType[net.Error](err); err == nil || is && timeout.Timeout() || took > closedWithin {
					t.Errorf("%s: its connection ends after %v: %v", name, took, err)
				}
			})
		}
	}
	attackers.Wait()
	close(over)
	bystanders.Wait()

	slices.Sort(waits)
	p99 := waits[len(waits)*99/100]
	peak := peakMemory(t, child.Process.Pid)
	t.Logf("%d requests of bystanders: %v in the median, %v in the 99th percentile; %d MiB at most", len(waits), waits[len(waits)/2], p99, peak>>20)
	if len(waits) < 100 || waits[len(waits)/2] > bystanderP50 || p99 > bystanderP99 {
		t.Error("bystanders wait for too long")
	}
	if peak > mostMemory {
		t.Errorf("the gateway had %d MiB", peak>>20)
	}
	other.CloseIdleConnections()
	http.DefaultClient.CloseIdleConnections()
	eventually(t, "nothing of it left", func() bool {
		for _, name := range held {
			if gauge(t, operations, name) > before[name]+leakTolerance {
				return false
			}
		}
		return inflight(operations) == "0"
	})
	if strings.Contains(log.String(), `"level":"ERROR"`) {
		t.Errorf("logged:\n%.4000s", log)
	}
}
