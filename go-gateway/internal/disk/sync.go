package disk

import (
	"errors"
	"os"
)

// SyncFolder makes the names in a folder outlast a loss of power.
func SyncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
