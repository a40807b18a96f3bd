// Package vectors keeps vectors in a folder under the hash of their text, so that no text is embedded twice.
//
// Several processes may use a folder at once. Each appends to files of its own, reads those of all others, and claims the
// work that it is about to do. What Append has returned from is on disk; what it was killed in is as if it had not begun.
// The folder is for one model at one revision: which, is for the caller to say by the folder's name.
package vectors

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"triptych.dev/gateway/internal/disk"
)

// Hash is the SHA-256 of a text.
type Hash [sha256.Size]byte

// Refusal is why a text has no vector.
type Refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Entry is what became of a text: a vector, in little-endian float32, or a refusal.
type Entry struct {
	Hash    Hash
	Vector  []byte
	Refusal *Refusal
}

// State is what is known of a text.
type State int

// The states of a text.
const (
	Unknown State = iota
	Pending       // this process is at it
	Embedded
	Refused
)

// Store is such a folder, opened. Its methods may be called at once.
type Store struct {
	folder string

	mutex sync.Mutex
	bytes int // of a vector; 0 while there is none
	logs  []*log
	names map[string]bool
	own   *log // nil until something is appended
	known map[digest]place
	open  map[string]*os.File // for reading
}

// digest is the first half of a hash: none of it is chosen by who writes the texts, short of 2^64 attempts, and an index of
// millions is in memory.
type digest [sha256.Size / 2]byte

func (h *Hash) digest() digest { return digest(h[:len(digest{})]) }

// place is where it is: which log, whether it is a refusal, and the row, or the byte where the line begins.
type place uint64

const (
	pending    place = 1<<64 - 1
	refusedBit       = 1 << 43
	rowMask          = refusedBit - 1
	logShift         = 44
	mostLogs         = 1<<(64-logShift) - 1
)

func (p place) log() int      { return int(p >> logShift) }
func (p place) refused() bool { return p&refusedBit != 0 }
func (p place) row() int64    { return int64(p & rowMask) }

// Open reads what the folder knows, and makes it if it is not there.
func Open(folder string) (*Store, error) {
	if err := os.MkdirAll(filepath.Join(folder, claims), 0o777); err != nil {
		return nil, err
	}
	s := &Store{folder: folder, names: map[string]bool{}, known: map[digest]place{}, open: map[string]*os.File{}}
	return s, errors.Join(s.sweepClaims(), s.Refresh())
}

// Close gives back what is open. Nothing is left to be written.
func (s *Store) Close() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	err := s.closeReaders()
	if s.own != nil {
		err = errors.Join(err, s.own.close())
		s.own = nil
	}
	return err
}

// Refresh learns what other processes have appended.
func (s *Store) Refresh() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	folder, err := os.Open(s.folder)
	if err != nil {
		return err
	}
	names, err := folder.Readdirnames(-1)
	if err := errors.Join(err, folder.Close()); err != nil {
		return err
	}
	for _, name := range names {
		if name, isLog := strings.CutSuffix(name, keysSuffix); isLog && !s.names[name] {
			if _, err := s.addLog(name); err != nil {
				return err
			}
		}
	}
	for number, log := range s.logs {
		if log == s.own {
			continue
		}
		if err := s.follow(number, log); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) addLog(name string) (*log, error) {
	if len(s.logs) == mostLogs {
		return nil, fmt.Errorf("%s has more than %d files of vectors", s.folder, mostLogs)
	}
	added := &log{path: filepath.Join(s.folder, name), number: len(s.logs)}
	s.names[name] = true
	s.logs = append(s.logs, added)
	return added, nil
}

// Look says what is known of a text.
func (s *Store) Look(hash Hash) State {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.look(hash)
}

func (s *Store) look(hash Hash) State {
	switch place, known := s.known[hash.digest()]; {
	case !known:
		return Unknown
	case place == pending:
		return Pending
	case place.refused():
		return Refused
	default:
		return Embedded
	}
}

// Begin is true for a text of which nothing is known, which is pending from then on.
func (s *Store) Begin(hash Hash) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.look(hash) != Unknown {
		return false
	}
	s.known[hash.digest()] = pending
	return true
}

// Dimensions is how many numbers a vector has; 0 while there is none.
func (s *Store) Dimensions() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.bytes / bytesPerFloat
}

const bytesPerFloat = 4

// setBytes holds all vectors of a folder to one size.
func (s *Store) setBytes(bytes int, of string) error {
	if s.bytes == 0 {
		s.bytes = bytes
	}
	if bytes != s.bytes || bytes <= 0 || bytes%bytesPerFloat != 0 {
		return fmt.Errorf("%s: vectors of %d bytes, where others have %d", of, bytes, s.bytes)
	}
	return nil
}

// Append makes entries durable: they are on disk when it returns, and known to every process that refreshes. After an error
// the store takes no more.
func (s *Store) Append(entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for i := range entries {
		if entry := &entries[i]; entry.Refusal == nil {
			if err := s.setBytes(len(entry.Vector), "the service"); err != nil {
				return err
			}
		}
	}
	if s.own == nil {
		name := logName()
		own, err := s.addLog(name)
		if err != nil {
			return err
		}
		s.own = own
	}
	places, err := s.own.append(entries)
	if err != nil {
		return err
	}
	for i := range entries {
		s.known[entries[i].Hash.digest()] = places[i]
	}
	return nil
}

// Get is what became of a text that has a vector or was refused.
func (s *Store) Get(hash Hash) (Entry, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	entry := Entry{Hash: hash}
	if state := s.look(hash); state != Embedded && state != Refused {
		return entry, fmt.Errorf("nothing is known of the text with the hash %x", hash)
	}
	place := s.known[hash.digest()]
	log := s.logs[place.log()]
	var err error
	if place.refused() {
		entry.Refusal, err = s.readRefusal(log, place.row())
	} else {
		entry.Vector, err = s.readVector(log, place.row(), hash)
	}
	return entry, err
}

// Forget removes refusals, so that their texts are asked for once more. Nobody else may use the folder.
func (s *Store) Forget() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, log := range s.logs {
		if err := os.Remove(log.path + refusedSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for digest, place := range s.known {
		if place != pending && place.refused() {
			delete(s.known, digest)
		}
	}
	return disk.SyncFolder(s.folder)
}
