package webhook

import (
	"bufio"
	"bytes"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// FuzzReceiverReply holds that what a receiver says, whatever that is, is success or not, and for how long to wait: none of
// its words are kept.
func FuzzReceiverReply(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 503 x\r\nRetry-After: 120\r\n\r\n", "HTTP/1.1 429 x\r\nRetry-After: 2147483647\r\n\r\n",
		"HTTP/1.1 500 x\r\nRetry-After: 2147483648\r\n\r\n", "HTTP/1.1 500 x\r\nRetry-After: -1\r\n\r\n", "HTTP/1.1 500 x\r\nRetry-After: 1e3\r\nRetry-After: 7\r\n\r\n",
		"HTTP/1.1 503 x\r\nRetry-After: Sat, 28 Nov 2026 20:00:00 GMT\r\n\r\n", "HTTP/1.1 301 x\r\nLocation: http://169.254.169.254/\r\n\r\n",
		"HTTP/1.0 099 x\r\n\r\n", "HTTP/1.1 999 secret words\r\nContent-Length: 5\r\n\r\nwords",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		reply, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(sent)), nil)
		if err != nil {
			return
		}
		got := answered(reply)
		if success := reply.StatusCode >= 200 && reply.StatusCode < 300; (got.kind == KindDelivered) != success || (got.message == "") != success || got.status != reply.StatusCode {
			t.Fatalf("%q came to %+v", sent, got)
		}
		told := "the receiver answered " + strconv.Itoa(reply.StatusCode)
		if got.message != "" && got.message != told && got.message != told+", a redirect, and those are not followed" {
			t.Fatalf("%q is told as %q", sent, got.message)
		}
		wait := retryAfter(reply.Header)
		if wait < 0 || wait >= 1<<31*time.Second || wait%time.Second != 0 || got.retryAfter != 0 && got.retryAfter != wait {
			t.Fatalf("%q has it wait for %v", sent, wait)
		}
		if again := retryAfter(http.Header{"Retry-After": {strconv.Itoa(int(wait / time.Second))}}); again != wait {
			t.Fatalf("%v, written again, is %v", wait, again)
		}
	})
}
