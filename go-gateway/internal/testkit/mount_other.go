//go:build !linux

package testkit

import "testing"

// MountReadOnly skips the test: mounts are Linux's here.
func MountReadOnly(t testing.TB, _, _ string) (unmount func()) {
	t.Helper()
	t.Skip("LOUD: nothing is mounted here: what can only be read is NOT tested")
	return nil
}
