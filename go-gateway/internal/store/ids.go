package store

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// NewID returns an id that nobody can guess, and that is greater than those of earlier milliseconds: a UUID of version 7.
func NewID(prefix string, now time.Time) string {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], uint64(now.UnixMilli())<<16)
	rand.Read(id[6:]) // never fails
	id[6], id[8] = 0x70|id[6]&0x0f, 0x80|id[8]&0x3f
	return prefix + hex.EncodeToString(id[:])
}
