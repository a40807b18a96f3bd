package vectors

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func hashOf(n int) Hash { return sha256.Sum256(fmt.Append(nil, n)) }

func vectorOf(n int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%04d", n), 3) } // 3 numbers

func embedded(from, to int) (entries []Entry) {
	for n := from; n < to; n++ {
		entries = append(entries, Entry{Hash: hashOf(n), Vector: vectorOf(n)})
	}
	return entries
}

func refused(n int) Entry {
	return Entry{Hash: hashOf(n), Refusal: &Refusal{"no", fmt.Sprint("text ", n)}}
}

func open(t testing.TB, folder string) *Store {
	t.Helper()
	s, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func add(t testing.TB, s *Store, entries ...Entry) {
	t.Helper()
	if err := s.Append(entries); err != nil {
		t.Fatal(err)
	}
}

// holds checks that a store has what it says of the numbers below some bound, and how many of them that is.
func holds(t testing.TB, s *Store, below int) (count int) {
	t.Helper()
	for n := range below {
		state := s.Look(hashOf(n))
		if state == Unknown {
			if _, err := s.Get(hashOf(n)); err == nil {
				t.Errorf("%d is unknown, and there", n)
			}
			continue
		}
		count++
		entry, err := s.Get(hashOf(n))
		switch {
		case err != nil:
			t.Error(err)
		case state == Embedded && !bytes.Equal(entry.Vector, vectorOf(n)):
			t.Errorf("%d has the vector %q", n, entry.Vector)
		case state == Refused && entry.Refusal.Message != fmt.Sprint("text ", n):
			t.Errorf("%d has the refusal %v", n, entry.Refusal)
		}
	}
	return count
}

func TestWhatIsAppendedIsThere(t *testing.T) {
	folder := t.TempDir()
	first, second := open(t, folder), open(t, folder)
	if !first.Begin(hashOf(0)) || first.Begin(hashOf(0)) || first.Look(hashOf(0)) != Pending || second.Look(hashOf(0)) != Unknown {
		t.Error("what one begins, it begins once, and others do not know")
	}
	add(t, first, refused(0))
	add(t, first, append(embedded(1, 5), refused(5))...)
	add(t, second, embedded(6, 9)...)
	add(t, first, append(embedded(9, 10), refused(10))...)
	if first.Dimensions() != 3 || holds(t, first, 12) != 8 || holds(t, second, 12) != 3 {
		t.Error("each knows its own")
	}
	for range 2 {
		if err := second.Refresh(); err != nil || holds(t, second, 12) != 11 {
			t.Error("and others' when it looks", err)
		}
	}
	if third := open(t, folder); holds(t, third, 12) != 11 || third.Look(hashOf(5)) != Refused {
		t.Error("as who comes later")
	}
	if err := first.Append([]Entry{{Hash: hashOf(20), Vector: make([]byte, 16)}}); err == nil || first.Look(hashOf(20)) != Unknown {
		t.Error("a vector of another length is refused", err)
	}
	if err := open(t, folder).Forget(); err != nil {
		t.Error(err)
	}
	if again := open(t, folder); holds(t, again, 12) != 8 || again.Look(hashOf(5)) != Unknown {
		t.Error("refusals are forgotten")
	}
}

// TestATornLogIsItsWholeBeginning cuts each file anywhere, as a crash may.
func TestATornLogIsItsWholeBeginning(t *testing.T) {
	folder := t.TempDir()
	s := open(t, folder)
	add(t, s, append(embedded(0, 4), refused(4), refused(5))...)
	for suffix, size := range map[string]int{keysSuffix: keySize, refusedSuffix: 0} {
		paths, err := filepath.Glob(filepath.Join(folder, "*"+suffix))
		if err != nil || len(paths) != 1 {
			t.Fatal(paths, err)
		}
		content, err := os.ReadFile(paths[0])
		if err != nil {
			t.Fatal(err)
		}
		for cut := range content {
			for _, rest := range []string{"", "\x00\x00\x00", strings.Repeat("\xff", 2*keySize)} {
				if err := os.WriteFile(paths[0], append(bytes.Clone(content[:cut]), rest...), 0o600); err != nil {
					t.Fatal(err)
				}
				want := 4 + bytes.Count(content[:cut], []byte("\n"))
				if size > 0 {
					want = 2 + max(cut-headerSize, 0)/size
				}
				torn, err := Open(folder)
				if err != nil {
					if cut < headerSize && rest != "" { // no header of ours
						continue
					}
					t.Fatal(cut, err)
				}
				if got := holds(t, torn, 6); got != want {
					t.Fatalf("%s cut at %d, then %q: %d are there, and %d are whole", suffix, cut, rest, got, want)
				}
				_ = torn.Close()
			}
		}
		if err := os.WriteFile(paths[0], content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADamagedVectorIsAnError(t *testing.T) {
	folder := t.TempDir()
	add(t, open(t, folder), embedded(0, 4)...)
	paths, _ := filepath.Glob(filepath.Join(folder, "*"+vectorsSuffix))
	content, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	content[2*12+5] ^= 1
	if err := os.WriteFile(paths[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, folder)
	if _, err := s.Get(hashOf(2)); err == nil || !strings.Contains(err.Error(), "row 2 is damaged") {
		t.Errorf("got %v", err)
	}
	if _, err := s.Get(hashOf(1)); err != nil {
		t.Error(err)
	}
}

// TestManyAppendAndRead at once, through stores of their own.
func TestManyAppendAndRead(t *testing.T) {
	folder := t.TempDir()
	var writers sync.WaitGroup
	for writer := range 4 {
		s := open(t, folder)
		writers.Go(func() {
			for n := writer * 50; n < writer*50+50; n += 5 {
				if err := s.Append(embedded(n, n+5)); err != nil {
					t.Error(err)
				}
				if err := s.Refresh(); err != nil {
					t.Error(err)
				}
				holds(t, s, 200)
			}
		})
	}
	writers.Wait()
	if got := holds(t, open(t, folder), 200); got != 200 {
		t.Errorf("%d of 200", got)
	}
}

func TestOneAtATimeHasAClaim(t *testing.T) {
	folder := t.TempDir()
	first, second := open(t, folder), open(t, folder)
	claimed := func(s *Store, want bool) {
		t.Helper()
		if got, err := s.Claimed(hashOf(1)); err != nil || got != want {
			t.Error(got, err)
		}
	}
	claimed(first, false)
	claim, err := first.Claim(hashOf(1))
	if err != nil || claim == nil {
		t.Fatal(claim, err)
	}
	claimed(second, true)
	if other, err := second.Claim(hashOf(1)); err != nil || other != nil {
		t.Error(other, err)
	}
	if other, err := second.Claim(hashOf(2)); err != nil || other == nil || other.Release() != nil {
		t.Error(other, err)
	}
	if err := claim.Release(); err != nil {
		t.Error(err)
	}
	claimed(second, false)
	if left, _ := os.ReadDir(filepath.Join(folder, claims)); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

// TestAClaimIsNeverHadTwice although its file is removed and made anew all the time.
func TestAClaimIsNeverHadTwice(t *testing.T) {
	folder := t.TempDir()
	var mutex sync.Mutex // of the counter alone
	holders, had := 0, 0
	var all sync.WaitGroup
	for range 8 {
		s := open(t, folder)
		all.Go(func() {
			for range 500 {
				claim, err := s.Claim(hashOf(1))
				if err != nil {
					t.Error(err)
				}
				if claim == nil {
					continue
				}
				mutex.Lock()
				if holders++; holders > 1 {
					t.Error("two have it")
				}
				had++
				mutex.Unlock()
				mutex.Lock()
				holders--
				mutex.Unlock()
				if err := claim.Release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if had == 0 {
		t.Error("nobody has had it")
	}
}

// FuzzLog reads logs that anybody wrote.
func FuzzLog(f *testing.F) {
	keys := appendHeader(nil, 12)
	for n, entry := range embedded(0, 2) {
		keys = appendKey(keys, &entry, int64(n))
	}
	entry := refused(2)
	line, err := refusalLine(&entry)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(keys, line)
	f.Add(keys[:len(keys)-1], []byte("{}\n"))
	f.Fuzz(func(t *testing.T, keys, refusals []byte) {
		folder := t.TempDir()
		for suffix, content := range map[string][]byte{keysSuffix: keys, refusedSuffix: refusals, vectorsSuffix: vectorOf(0)} {
			if err := os.WriteFile(filepath.Join(folder, "a"+suffix), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(folder)
		if err != nil {
			return
		}
		for n := range 3 {
			_, _ = s.Get(hashOf(n))
		}
		_ = s.Close()
	})
}

// What a process leaves that is killed just before it gives a claim back, when the work is done already.
func TestClaimsOfTheDeadAreRemoved(t *testing.T) {
	folder := t.TempDir()
	s, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	claim, err := s.Claim(Hash{1})
	if err != nil || claim == nil {
		t.Fatal(claim, err)
	}
	if err := os.WriteFile(s.claimPath(Hash{2}), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if left, err := os.ReadDir(filepath.Join(folder, claims)); err != nil || len(left) != 1 || left[0].Name() != filepath.Base(s.claimPath(Hash{1})) {
		t.Errorf("%v, %v", left, err)
	}
	if claimed, err := other.Claimed(Hash{1}); err != nil || !claimed {
		t.Errorf("%v, %v", claimed, err)
	}
	if err := claim.Release(); err != nil {
		t.Error(err)
	}
}
