// Package disk has what files need of a file system beside the standard library: its room, and names that last.
package disk

import "syscall"

// Free returns how many bytes this process may still write to the file system of a path.
func Free(path string) (int64, error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(path, &stat); err != nil {
		return 0, err
	}
	return int64(stat.Bavail) * int64(stat.Bsize), nil // of other types on other systems
}
