package main

import (
	"math"
	"testing"
	"testing/fstest"

	"triptych.dev/gateway/internal/config"
)

func TestControlGroupMemory(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"none": {nil, 0},
		"a container": {map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "536870912\n"}, 512 << 20},
		"no limit": {map[string]string{
			"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 0},
		"the smallest on the way up": {map[string]string{
			"proc/self/cgroup": "0::/a/b/c\n", "sys/fs/cgroup/a/b/c/memory.max": "max", "sys/fs/cgroup/a/b/memory.max": "1000", "sys/fs/cgroup/a/memory.max": "2000"}, 1000},
		"seen from within, under a name from outside": {map[string]string{
			"proc/self/cgroup": "0::/outside/x\n", "sys/fs/cgroup/memory.max": "1000"}, 1000},
		"version 1": {map[string]string{
			"proc/self/cgroup": "9:name=systemd:/\n4:memory:/a\n0::/\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, 1000},
		"nonsense": {map[string]string{
			"proc/self/cgroup": "x\n0::/../..\n", "sys/fs/cgroup/memory.max": "-"}, 0},
	} {
		system := fstest.MapFS{}
		for path, text := range c.files {
			system[path] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := controlGroupMemory(system); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}

func TestThreads(t *testing.T) {
	for _, c := range []struct{ allowed, processors, want int }{{1, 1, 1}, {2, 2, 1}, {16, 16, 4}, {4, 64, 4}, {63, 64, 63}} {
		if got := threads(c.allowed, c.processors); got != c.want {
			t.Errorf("%d of %d: got %d, want %d", c.allowed, c.processors, got, c.want)
		}
	}
}

func TestMemoryLimit(t *testing.T) {
	settings := &config.Settings{MaxTotalBodyBytes: 128 << 20}
	for group, want := range map[int64]int64{
		0: 896 << 20, math.MaxInt64: 896 << 20, 500: 450,
	} {
		if got := memoryLimit(settings, group); got != want {
			t.Errorf("in a control group of %d: got %d, want %d", group, got, want)
		}
	}
}
