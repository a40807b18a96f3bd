package vectors

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"

	"triptych.dev/gateway/internal/disk"
)

// A log is three files that one process appends to, and nobody after it:
//
//	NAME.vectors  a vector after the other
//	NAME.keys     a header, then 40 bytes for each: the hash, the vector's CRC-32C, and that of the row and what is before it
//	NAME.refused  a JSON object a line: hash, code, message
//
// Vectors are synced before their keys are written. So a key that is whole has its vector, and what is behind the last
// whole key or line was being written when the process was killed: it is as if it were not there.
const (
	keysSuffix    = ".keys"
	vectorsSuffix = ".vectors"
	refusedSuffix = ".refused"

	magic      = "EMBKEYS1"
	headerSize = len(magic) + 4 // then the bytes of a vector
	keySize    = len(Hash{}) + 4 + 4

	longestRefusal = 4096 // a line's bytes
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type log struct {
	path   string // without the suffixes
	number int

	// How far it is read, or written: rows of keys, and bytes of refusals.
	rows, refusals int64

	keys, vectors, refused *os.File // where this process writes
	failed                 error
}

// logName sorts by time. Nobody else has it.
func logName() string {
	return fmt.Sprintf("%s-%s", time.Now().UTC().Format("20060102T150405"), rand.Text()[:10])
}

// create opens a file of the log when it is first written.
func (l *log) create(file **os.File, suffix string, header []byte) error {
	if *file != nil {
		return nil
	}
	var err error
	if *file, err = os.OpenFile(l.path+suffix, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o666); err != nil {
		return err
	}
	if _, err := (*file).Write(header); err != nil {
		return err
	}
	return disk.SyncFolder(filepath.Dir(l.path))
}

func (l *log) close() error {
	var err error
	for _, file := range []*os.File{l.keys, l.vectors, l.refused} {
		if file != nil {
			err = errors.Join(err, file.Close())
		}
	}
	return err
}

// append returns where each entry is once it is there for good. What could not be written in part is never written to again:
// the rows of vectors and keys would no longer be each other's.
func (l *log) append(entries []Entry) (places []place, err error) {
	if l.failed != nil {
		return nil, l.failed
	}
	defer func() { l.failed = err }()
	var keys, vectors, refusals []byte
	base, row, line := place(l.number)<<logShift, l.rows, l.refusals
	places = make([]place, len(entries))
	for i := range entries {
		entry := &entries[i]
		if entry.Refusal != nil {
			text, err := refusalLine(entry)
			if err != nil {
				return nil, err
			}
			places[i] = base | refusedBit | place(line)
			refusals = append(refusals, text...)
			line += int64(len(text))
			continue
		}
		places[i] = base | place(row)
		keys = appendKey(keys, entry, row)
		vectors = append(vectors, entry.Vector...)
		row++
	}
	if len(vectors) > 0 {
		size := len(vectors) / (len(keys) / keySize)
		if err := l.write(&l.vectors, vectorsSuffix, nil, vectors); err != nil {
			return nil, err
		}
		if err := l.write(&l.keys, keysSuffix, appendHeader(nil, size), keys); err != nil {
			return nil, err
		}
	}
	if len(refusals) > 0 {
		// A log is found by its keys, also where all is refused.
		if err := l.create(&l.keys, keysSuffix, nil); err != nil {
			return nil, err
		}
		if err := l.write(&l.refused, refusedSuffix, nil, refusals); err != nil {
			return nil, err
		}
	}
	l.rows, l.refusals = row, line
	return places, nil
}

func (l *log) write(file **os.File, suffix string, header, content []byte) error {
	if err := l.create(file, suffix, nil); err != nil {
		return err
	}
	if l.rows == 0 {
		content = append(header, content...)
	}
	if _, err := (*file).Write(content); err != nil {
		return err
	}
	return (*file).Sync()
}

func appendHeader(buffer []byte, size int) []byte {
	return binary.LittleEndian.AppendUint32(append(buffer, magic...), uint32(size))
}

func appendKey(buffer []byte, entry *Entry, row int64) []byte {
	begin := len(buffer)
	buffer = append(buffer, entry.Hash[:]...)
	buffer = binary.LittleEndian.AppendUint32(buffer, crc32.Checksum(entry.Vector, castagnoli))
	return binary.LittleEndian.AppendUint32(buffer, keyCheck(buffer[begin:], row))
}

func keyCheck(key []byte, row int64) uint32 {
	sum := crc32.Checksum(key, castagnoli)
	return crc32.Update(sum, castagnoli, binary.LittleEndian.AppendUint64(nil, uint64(row)))
}

type refusalRow struct {
	Hash string `json:"hash"` // in hexadecimal digits
	Refusal
}

func (r *refusalRow) hash() (hash Hash, ok bool) {
	n, err := hex.Decode(hash[:], []byte(r.Hash[:min(len(r.Hash), hex.EncodedLen(len(hash)))]))
	return hash, err == nil && n == len(hash)
}

func refusalLine(entry *Entry) ([]byte, error) {
	row := refusalRow{hex.EncodeToString(entry.Hash[:]), *entry.Refusal}
	row.Code, row.Message = shortened(row.Code, 100), shortened(row.Message, 500)
	line, err := json.Marshal(row)
	return append(line, '\n'), err
}

func shortened(text string, length int) string {
	if len(text) > length {
		text = text[:length] + "…"
	}
	return string(bytes.ToValidUTF8([]byte(text), []byte("\ufffd")))
}

// follow reads what has been appended to a log of somebody else.
func (s *Store) follow(number int, l *log) error {
	base := place(number) << logShift
	err := readFrom(l.path+keysSuffix, offsetOf(l.rows), func(content []byte) (int, error) {
		used := 0
		if l.rows == 0 {
			if len(content) < headerSize {
				return 0, nil
			}
			if string(content[:len(magic)]) != magic {
				return 0, fmt.Errorf("%s is no file of keys that this program knows", l.path+keysSuffix)
			}
			if err := s.setBytes(int(binary.LittleEndian.Uint32(content[len(magic):])), l.path); err != nil {
				return 0, err
			}
			used = headerSize
		}
		for ; used+keySize <= len(content); used += keySize {
			key := content[used : used+keySize]
			if binary.LittleEndian.Uint32(key[keySize-4:]) != keyCheck(key[:keySize-4], l.rows) {
				return used, errTorn
			}
			s.known[digest(key)] = base | place(l.rows)
			l.rows++
		}
		if l.rows == 0 {
			used = 0
		}
		return used, nil
	})
	if err != nil {
		return err
	}
	return readFrom(l.path+refusedSuffix, l.refusals, func(content []byte) (int, error) {
		used := 0
		for {
			end := bytes.IndexByte(content[used:], '\n')
			if end < 0 {
				if len(content)-used > longestRefusal {
					return used, errTorn
				}
				return used, nil
			}
			var row refusalRow
			if json.Unmarshal(content[used:used+end], &row) != nil {
				return used, errTorn
			}
			hash, ok := row.hash()
			if !ok {
				return used, errTorn
			}
			s.known[hash.digest()] = base | refusedBit | place(l.refusals)
			l.refusals += int64(end + 1)
			used += end + 1
		}
	})
}

// offsetOf is where reading goes on: at the header, as long as there is no row.
func offsetOf(row int64) int64 {
	if row == 0 {
		return 0
	}
	return int64(headerSize) + row*int64(keySize)
}

// errTorn ends the reading of a log where it is not whole.
var errTorn = errors.New("torn")

// readFrom hands on what a file has from an offset, in pieces of which the beginning that is used is not handed on again.
func readFrom(path string, offset int64, use func([]byte) (int, error)) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	content := io.NewSectionReader(file, offset, 1<<62-offset)
	buffer, held := make([]byte, 64<<10), 0
	for {
		n, err := content.Read(buffer[held:])
		held += n
		used, failed := use(buffer[:held])
		held = copy(buffer, buffer[used:held])
		switch {
		case errors.Is(failed, errTorn), errors.Is(err, io.EOF):
			return nil
		case failed != nil:
			return failed
		case err != nil:
			return err
		}
	}
}

func (s *Store) reader(path string) (*os.File, error) {
	if file := s.open[path]; file != nil {
		return file, nil
	}
	if len(s.open) >= mostOpen {
		if err := s.closeReaders(); err != nil {
			return nil, err
		}
	}
	file, err := os.Open(path)
	if err == nil {
		s.open[path] = file
	}
	return file, err
}

// mostOpen bounds files that are open for reading: each start of a process may have made three.
const mostOpen = 96

func (s *Store) closeReaders() error {
	var err error
	for _, file := range s.open {
		err = errors.Join(err, file.Close())
	}
	clear(s.open)
	return err
}

func (s *Store) readVector(l *log, row int64, hash Hash) ([]byte, error) {
	key := make([]byte, keySize)
	vector := make([]byte, s.bytes)
	if err := s.readAt(l.path+keysSuffix, key, int64(headerSize)+row*int64(keySize)); err != nil {
		return nil, err
	}
	if err := s.readAt(l.path+vectorsSuffix, vector, row*int64(s.bytes)); err != nil {
		return nil, err
	}
	if !bytes.Equal(key[:len(hash)], hash[:]) || binary.LittleEndian.Uint32(key[len(hash):]) != crc32.Checksum(vector, castagnoli) {
		return nil, fmt.Errorf("%s: row %d is damaged: remove the file and its .keys, and its vectors are made anew", l.path+vectorsSuffix, row)
	}
	return vector, nil
}

func (s *Store) readAt(path string, buffer []byte, offset int64) error {
	file, err := s.reader(path)
	if err != nil {
		return err
	}
	if _, err = file.ReadAt(buffer, offset); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (s *Store) readRefusal(l *log, offset int64) (*Refusal, error) {
	file, err := s.reader(l.path + refusedSuffix)
	if err != nil {
		return nil, err
	}
	buffer := make([]byte, longestRefusal)
	n, err := file.ReadAt(buffer, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	line, _, _ := bytes.Cut(buffer[:n], []byte("\n"))
	var row refusalRow
	if err := json.Unmarshal(line, &row); err != nil {
		return nil, fmt.Errorf("%s: %w", l.path+refusedSuffix, err)
	}
	return &row.Refusal, nil
}
