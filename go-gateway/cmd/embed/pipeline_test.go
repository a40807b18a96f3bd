package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"triptych.dev/gateway/cmd/embed/internal/output"
)

func TestASecondRunEmbedsWhatHasChanged(t *testing.T) {
	s, folder := startService(t), t.TempDir()
	texts := append(numbered(3000), "text 0", "text 2999", "twice", "twice")
	command := s.command(folder, docs(t, folder, texts...))
	start(t, t.Context(), exitDone, command...)
	holds(t, folder, "r1", texts...)
	if sent, _ := s.sent(); sent != 3001 {
		t.Errorf("%d texts were sent, and 3001 are different", sent)
	}
	before, err := os.Stat(filepath.Join(folder, "out", output.VectorsNPY))
	if err != nil {
		t.Fatal(err)
	}
	start(t, t.Context(), exitDone, command...)
	after, err := os.Stat(filepath.Join(folder, "out", output.VectorsNPY))
	if sent, _ := s.sent(); sent != 0 || err != nil || !os.SameFile(before, after) {
		t.Errorf("%d texts were sent again, or all was written again: %v", sent, err)
	}
	texts = slices.Concat([]string{"new 1"}, texts[7:1500], []string{"new 2"}, texts[1400:])
	docs(t, folder, texts...)
	start(t, t.Context(), exitDone, command...)
	holds(t, folder, "r1", texts...)
	if sent, _ := s.sent(); sent != 2 {
		t.Errorf("%d texts were sent, and 2 are new", sent)
	}
	// A result that was removed is made of what is known.
	if err := os.Remove(filepath.Join(folder, "out", output.IDs)); err != nil {
		t.Fatal(err)
	}
	start(t, t.Context(), exitDone, command...)
	holds(t, folder, "r1", texts...)
	s.serve("r2")
	start(t, t.Context(), exitDone, command...)
	holds(t, folder, "r2", texts...)
	if sent, twice := s.sent(); sent < 2900 || twice != 0 {
		t.Errorf("of a new revision, %d texts were sent, and %d twice", sent, twice)
	}
	s.serve("r1")
	start(t, t.Context(), exitDone, command...)
	holds(t, folder, "r1", texts...)
	if sent, _ := s.sent(); sent != 0 {
		t.Errorf("%d texts were sent, and all were known of that revision", sent)
	}
}

func TestEveryKindOfInputGivesTheSame(t *testing.T) {
	s, folder := startService(t), t.TempDir()
	texts := numbered(30)
	docs(t, folder, texts...)
	csv := "id,text\n"
	for i, text := range texts {
		csv += fmt.Sprintf("id-%d,\"%s\"\n", i, text)
	}
	table := filepath.Join(folder, "docs.csv")
	if err := os.WriteFile(table, []byte(csv), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, t.Context(), exitDone, s.command(folder, table)...)
	holds(t, folder, "r1", texts...)
}

func TestSeveralInputsWithoutIDs(t *testing.T) {
	s, folder := startService(t), t.TempDir()
	path := docs(t, folder, "one", "two")
	below := filepath.Join(folder, "below")
	if err := os.Mkdir(below, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(below, "a.txt"), []byte("three"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, t.Context(), exitDone, append(s.command(folder, path, below), "--id-field", "")...)
	ids, err := os.ReadFile(filepath.Join(folder, "out", output.IDs))
	for _, id := range []string{path + ":1", path + ":2", below + ":a.txt"} {
		if !strings.Contains(string(ids), `{"id":"`+id+`"`) {
			t.Errorf("there is no %s in\n%s%v", id, ids, err)
		}
	}
}

func TestTheOtherFormats(t *testing.T) {
	s := startService(t)
	for _, format := range []string{"arrow", "parquet"} {
		folder := t.TempDir()
		command := append(s.command(folder, docs(t, folder, numbered(5)...)), "--format", format)
		start(t, t.Context(), exitDone, command...)
		if _, err := os.Stat(filepath.Join(folder, "out/vectors."+format)); err != nil {
			t.Error(err)
		}
	}
}

func TestIDsThatAreThereTwice(t *testing.T) {
	s, folder := startService(t), t.TempDir()
	path := docs(t, folder, "one", "two")
	other := filepath.Join(folder, "other.jsonl")
	if err := os.WriteFile(other, []byte("\n{\"id\":\"id-1\",\"text\":\"three\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	said := start(t, t.Context(), exitNotDone, s.command(folder, path, other)...)
	if !strings.Contains(said, fmt.Sprintf(`the id "id-1" is at %s:2 and at %s:2`, path, other)) {
		t.Errorf("it said %s", said)
	}
	start(t, t.Context(), exitDone, append(s.command(folder, path, other), "--allow-duplicate-ids")...)
}

func TestAFolderOfOtherSettingsIsLeftAlone(t *testing.T) {
	s, folder := startService(t), t.TempDir()
	path := docs(t, folder, numbered(5)...)
	start(t, t.Context(), exitDone, s.command(folder, path)...)
	said := start(t, t.Context(), exitUsage, append(s.command(folder, path), "--format", "arrow", "--id-field", "")...)
	for _, difference := range []string{"--format is arrow, and was npy", "--id-field is , and was id"} {
		if !strings.Contains(said, difference) {
			t.Errorf("it said %s", said)
		}
	}
	holds(t, folder, "r1", numbered(5)...)
	// Of another folder the same vectors may be used.
	s.sent()
	other := t.TempDir()
	start(t, t.Context(), exitDone, append(s.command(other, path), "--format", "arrow", "--cache", filepath.Join(folder, "out/cache"))...)
	if sent, _ := s.sent(); sent != 0 {
		t.Errorf("%d texts were sent again", sent)
	}
}

func TestOtherInputsOnlyAlone(t *testing.T) {
	s, folder := startService(t), t.TempDir()
	path := docs(t, folder, numbered(5)...)
	command := s.command(folder, path)
	settings, err := readSettings(command, environment, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	leave, err := enter(t.Context(), settings) // as another process
	if err != nil {
		t.Fatal(err)
	}
	start(t, t.Context(), exitDone, command...)
	more := filepath.Join(folder, "more.jsonl")
	if err := os.WriteFile(more, []byte(`{"id":"more","text":"more"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := start(t, t.Context(), exitUsage, s.command(folder, path, more)...); !strings.Contains(said, "others run on this folder with other inputs") {
		t.Errorf("it said %s", said)
	}
	if said := start(t, t.Context(), exitUsage, append(command, "--retry-refused")...); !strings.Contains(said, "--retry-refused") {
		t.Errorf("it said %s", said)
	}
	leave()
	start(t, t.Context(), exitDone, s.command(folder, path, more)...)
}

func TestWhatTheCommandLineGetsWrong(t *testing.T) {
	folder := t.TempDir()
	path := docs(t, folder, "one")
	key := filepath.Join(folder, "key")
	if err := os.WriteFile(key, []byte("two\nlines"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := []string{"--input", path, "--output", filepath.Join(folder, "out"), "--url", "http://127.0.0.1:1"}
	for message, arguments := range map[string][]string{
		"--input is missing":           good[2:],
		"--output is missing":          {"--input", path},
		"named twice":                  append(good, "--input", path),
		"no such file":                 append(good, "--input", path+"l"),
		"is no URL":                    append(good, "--url", "127.0.0.1:8080"),
		"none of arrow, npy, parquet":  append(good, "--format", "csv"),
		"--batch 0 is not from 1":      append(good, "--batch", "0"),
		"other characters":             append(good, "--api-key-file", key),
		"--api-key-file: open":         append(good, "--api-key-file", key+"s"),
		"is no flag":                   append(good, "more.jsonl"),
		"not defined":                  append(good, "--nothing"),
		"would become its own input":   {"--input", folder, "--output", filepath.Join(folder, "out")},
		"must be more than 0":          append(good, "--timeout", "0s"),
		"max-line-bytes 0 is not from": append(good, "--max-line-bytes", "0"),
	} {
		if said := start(t, t.Context(), exitUsage, arguments...); !strings.Contains(said, message) {
			t.Errorf("%v: it said %s", arguments, said)
		}
	}
	if said := start(t, t.Context(), exitDone, "--help"); !strings.Contains(said, "Exit codes") || !strings.Contains(said, "-id-column") {
		t.Errorf("it said %s", said)
	}
}

func TestAnInputWithoutRecords(t *testing.T) {
	s, folder := startService(t), t.TempDir()
	if said := start(t, t.Context(), exitNotDone, s.command(folder, docs(t, folder))...); !strings.Contains(said, "no records") {
		t.Errorf("it said %s", said)
	}
}
