package testkit

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// isKilled makes the test binary one that starts a server and is killed.
const isKilled = "TEST_IS_KILLED"

func TestAServerEndsWithTheTestsThatAreKilled(t *testing.T) {
	if os.Getenv(isKilled) != "" {
		server := StartPostgres(t)
		fmt.Printf("started %d %s\n", server.port, server.folder)
		select {}
	}
	postgresBin(t)
	killed := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	killed.Env = append(os.Environ(), isKilled+"=1")
	killed.Stderr = os.Stderr
	said, err := killed.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	var port int
	var folder string
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if _, line, found := strings.Cut(lines.Text(), "started "); found {
			if _, err := fmt.Sscan(line, &port, &folder); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	_ = killed.Process.Kill()
	_ = killed.Wait()
	if port == 0 {
		t.Fatal("no server was started")
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		connection, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		_, gone := os.Stat(folder)
		if err != nil && os.IsNotExist(gone) {
			return
		}
		if err == nil {
			connection.Close()
		}
		if time.Now().After(end) {
			t.Fatalf("the server answers: %v; its folder: %v", err == nil, gone)
		}
	}
}
