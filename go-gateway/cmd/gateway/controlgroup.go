package main

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// controlGroupMemory returns the smallest memory limit of this process's control group and those around it, in bytes;
// 0 if there is none. system is the root of the file system.
func controlGroupMemory(system fs.FS) (smallest int64) {
	membership, err := fs.ReadFile(system, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(membership)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3) // number, controllers, group
		if len(fields) != 3 {
			continue
		}
		folder, file := "sys/fs/cgroup", "memory.max"
		if fields[1] == "memory" { // version 1
			folder, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		} else if fields[1] != "" {
			continue
		}
		for group := path.Clean("/" + fields[2]); ; group = path.Dir(group) {
			if limit := readLimit(system, path.Join(folder, group, file)); limit > 0 && (smallest == 0 || limit < smallest) {
				smallest = limit
			}
			if group == "/" {
				break
			}
		}
	}
	return smallest
}

// unlimited is where version 1 begins to mean that there is no limit.
const unlimited = 1 << 60

func readLimit(system fs.FS, name string) int64 {
	text, err := fs.ReadFile(system, name)
	if err != nil {
		return 0
	}
	limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64) // version 2 writes "max" for none
	if err != nil || limit >= unlimited {
		return 0
	}
	return limit
}
