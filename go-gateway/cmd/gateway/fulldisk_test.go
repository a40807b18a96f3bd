//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"triptych.dev/gateway/internal/testkit"
)

// crowded is a gateway of its own process whose store, or contents, are on a small disk.
type crowded struct {
	*site
	child    *exec.Cmd
	log      *testkit.Log
	api, key string
	extra    []string
	uploaded map[string]string // contents of files that were acknowledged, by their ids
}

// crowd starts one. The disk is what counts: nothing is refused beforehand.
func crowd(site *site, extra ...string) *crowded {
	c := &crowded{site: site, key: site.createKey(), uploaded: map[string]string{}, extra: append(extra, "--min-free-bytes", "0")}
	c.run()
	return c
}

func (c *crowded) run() {
	c.Helper()
	c.child, c.log = c.process(c.extra...)
	c.api = address(c.T, c.log, "http")
	eventually(c.T, "an answer", func() bool { return embed(c.api, c.key) == http.StatusOK })
}

func (c *crowded) kill() {
	c.signal(c.child, syscall.SIGKILL)
	_ = c.child.Wait()
}

// upload uploads one more file, and reports whether it was acknowledged. All that may be said else is that the disk is full.
func (c *crowded) upload(bytes int) bool {
	c.Helper()
	content := fmt.Sprintf("%d ", len(c.uploaded)) + strings.Repeat("x", bytes)
	status, reply := fileRequest(c.T, http.MethodPost, c.api, "/v1/files", c.key, uploadForm("user_data", "a", content))
	switch {
	case status == http.StatusOK:
		c.uploaded[idOf(c.T, reply)] = content
	case status != http.StatusInsufficientStorage || !strings.Contains(reply, `"storage_full"`):
		c.Fatalf("%d %s", status, reply)
	}
	return status == http.StatusOK
}

// uploadUntilFull uploads until there is no room, and returns how many files were acknowledged.
func (c *crowded) uploadUntilFull(bytes int) (files int) {
	c.Helper()
	for ; files < 5000; files++ {
		if !c.upload(bytes) {
			return files
		}
	}
	c.Fatal("the disk is not full")
	return files
}

// checkFiles wants those that were acknowledged, each once and whole, and no others.
func (c *crowded) checkFiles() {
	c.Helper()
	var found []string
	for after := ""; ; {
		_, reply := sendJSON(c.T, http.MethodGet, c.api, "/v1/files?purpose=user_data&limit=1000"+after, c.key, "")
		var page struct {
			Data    []struct{ ID string }
			HasMore bool `json:"has_more"`
		}
		if err := json.Unmarshal([]byte(reply), &page); err != nil {
			c.Fatalf("%v: %s", err, reply)
		}
		for _, file := range page.Data {
			found, after = append(found, file.ID), "&after="+file.ID
		}
		if !page.HasMore {
			break
		}
	}
	slices.Sort(found)
	if !slices.Equal(found, slices.Sorted(maps.Keys(c.uploaded))) {
		c.Errorf("%d files are there, %d were acknowledged", len(found), len(c.uploaded))
	}
	for id, content := range c.uploaded {
		if status, reply := sendJSON(c.T, http.MethodGet, c.api, "/v1/files/"+id+"/content", c.key, ""); status != http.StatusOK || reply != content {
			c.Errorf("%s: %d, %d bytes", id, status, len(reply))
		}
	}
}

// submit has a batch run, whose lines are under way by then.
func (c *crowded) submit(lines int) (batch string) {
	c.Helper()
	input := uploadAs(c.T, c.api, c.key, "batch", "a.jsonl", embedLines(lines))
	status, reply := sendJSON(c.T, http.MethodPost, c.api, "/v1/batches", c.key, `{"input_file_id":"`+input+`","endpoint":"/v1/embeddings","completion_window":"24h"}`)
	if status != http.StatusOK {
		c.Fatalf("%d %s", status, reply)
	}
	eventually(c.T, "lines under way", func() bool { return len(c.hotpath.Calls()) >= lines })
	return idOf(c.T, reply)
}

// checkBatch waits for a batch's end, and wants each line once, none failed, and the usage of each once.
func (c *crowded) checkBatch(id string, lines int) {
	c.Helper()
	var batch struct {
		Status string
		Output string                                 `json:"output_file_id"`
		Counts struct{ Total, Completed, Failed int } `json:"request_counts"`
		Usage  struct {
			Total int `json:"total_tokens"`
		}
	}
	eventuallyIn(c.T, time.Minute, "the batch's end", func() bool {
		_, reply := sendJSON(c.T, http.MethodGet, c.api, "/v1/batches/"+id, c.key, "")
		return json.Unmarshal([]byte(reply), &batch) == nil && batch.Status != "in_progress" && batch.Status != "finalizing"
	})
	if batch.Status != "completed" || batch.Counts.Completed != lines || batch.Counts.Failed != 0 {
		c.Errorf("%+v\n%s", batch, c.log)
	}
	_, output := sendJSON(c.T, http.MethodGet, c.api, "/v1/files/"+batch.Output+"/content", c.key, "")
	seen, usage := map[string]int{}, 0
	for line := range strings.Lines(output) {
		var served struct {
			CustomID string `json:"custom_id"`
			Response struct {
				Body struct {
					Usage struct {
						Total int `json:"total_tokens"`
					}
				}
			}
		}
		if err := json.Unmarshal([]byte(line), &served); err != nil {
			c.Fatal(err)
		}
		seen[served.CustomID]++
		usage += served.Response.Body.Usage.Total
	}
	for i := range lines {
		if n := seen[fmt.Sprint(i)]; n != 1 {
			c.Errorf("line %d came out %d times", i, n)
		}
	}
	if len(seen) != lines || usage != batch.Usage.Total || usage == 0 {
		c.Errorf("%d ids, %d tokens of lines, %d of the batch", len(seen), usage, batch.Usage.Total)
	}
}

// end stops the gateway, and looks for damage.
func (c *crowded) end() {
	c.Helper()
	c.signal(c.child, syscall.SIGTERM)
	_ = c.child.Wait()
	flags := slices.Clone(c.store)
	if i := slices.Index(c.extra, "--blobs"); i >= 0 {
		flags = append(flags, c.extra[i:i+2]...)
	}
	if status, _, stderr := execute(c.T, append([]string{"data", "check", "--hashes"}, flags...)...); status != exitOK {
		c.Error(stderr)
	}
}

// TestADiskThatIsFullAtAnUpload, and at a result: with contents and, where there is one, the database on it.
func TestADiskThatIsFullAtAnUploadAndAResult(t *testing.T) {
	t.Parallel() // they wait, for the most part
	for name, place := range map[string]func(site *site, disk string) *crowded{
		"sqlite": func(site *site, disk string) *crowded {
			site.store = []string{"--data", filepath.Join(disk, "data")}
			return crowd(site)
		},
		"postgres": func(site *site, disk string) *crowded {
			site.store = []string{"--database-url", postgres.Get(site.T).NewDatabase(site.T)}
			return crowd(site, "--blobs", disk)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk, site := testkit.SmallDisk(t, 8<<20), newSite(t)
			release := site.blocked()
			defer release()
			c := place(site, disk)
			batch := c.submit(20)
			for range 5 {
				c.upload(200 << 10)
			}
			room := testkit.Fill(t, disk)
			if c.upload(200 << 10) {
				t.Error("the disk was not full")
			}
			if got := embed(c.api, c.key); got != http.StatusOK {
				t.Errorf("a synchronous call gets %d", got)
			}
			release()
			eventuallyIn(t, time.Minute, "the result to be without room", func() bool { return strings.Contains(c.log.String(), "a job did not end well") })
			c.checkFiles()
			room()
			if !c.upload(10 << 10) {
				t.Error("with room an upload is refused")
			}
			c.checkBatch(batch, 20)
			c.checkFiles()
			c.end()
		})
	}
}

// TestADiskThatIsFullAtAFinish: contents have room, and the database has none, for a short time and for longer than a finish is
// tried again. A gateway that is killed meanwhile starts on the full disk.
func TestADiskThatIsFullAtAFinish(t *testing.T) {
	t.Parallel() // they wait, for the most part
	for name, during := range map[string]func(c *crowded){
		"for a moment": func(*crowded) {},
		"for longer than a finish is tried": func(c *crowded) {
			eventuallyIn(c.T, time.Minute, "the finish to be given up", func() bool { return strings.Contains(c.log.String(), "a job did not end well") })
		},
		"beyond the process": func(c *crowded) {
			c.kill()
			c.run()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk, site := testkit.SmallDisk(t, 4<<20), newSite(t)
			site.store = []string{"--data", filepath.Join(disk, "data")}
			release := site.blocked()
			defer release()
			c := crowd(site, "--blobs", t.TempDir())
			batch := c.submit(20)
			room := testkit.Fill(t, disk)
			c.uploadUntilFull(1)
			blobs := func() int {
				found, _ := filepath.Glob(filepath.Join(c.extra[1], "blobs", "*", "*"))
				return len(found)
			}
			before := blobs()
			release()
			eventually(t, "the result's content", func() bool { return blobs() > before })
			during(c)
			if got := embed(c.api, c.key); got != http.StatusOK {
				t.Errorf("a synchronous call gets %d", got)
			}
			if c.upload(1) {
				t.Error("the disk was not full")
			}
			room()
			c.checkBatch(batch, 20)
			c.checkFiles()
			c.end()
		})
	}
}

// TestAPostgresWhoseDiskIsFull refuses what needs room for rows, and finishes what has some: a batch waits for it.
func TestAPostgresWhoseDiskIsFull(t *testing.T) {
	t.Parallel() // they wait, for the most part
	disk, site := testkit.SmallDisk(t, 24<<20), newSite(t)
	site.store = []string{"--database-url", testkit.StartPostgres(t).NewDatabaseOn(t, disk)}
	release := site.blocked()
	defer release()
	c := crowd(site, "--blobs", t.TempDir())
	batch := c.submit(20)
	for range 2 { // full and healed, time and again
		room := testkit.Fill(t, disk)
		c.uploadUntilFull(1)
		release()
		if got := embed(c.api, c.key); got != http.StatusOK {
			t.Errorf("a synchronous call gets %d", got)
		}
		c.checkFiles()
		c.kill()
		c.run()
		room()
		if !c.upload(1) {
			t.Error("with room an upload is refused")
		}
	}
	c.checkBatch(batch, 20)
	c.checkFiles()
	c.end()
}

// TestADiskThatIsFullAtACheckpoint: the journal has room of its own, from before, and the database cannot grow. What is written to
// the journal lasts, also beyond a kill.
func TestADiskThatIsFullAtACheckpoint(t *testing.T) {
	t.Parallel() // they wait, for the most part
	disk, site := testkit.SmallDisk(t, 8<<20), newSite(t)
	site.store = []string{"--data", filepath.Join(disk, "data")}
	c := crowd(site, "--blobs", t.TempDir())
	size := func(name string) int64 {
		info, err := os.Stat(filepath.Join(site.data(), name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	const pages = 1000 // after which SQLite takes the journal into the database
	for journal := size("gateway.db-wal"); ; journal = size("gateway.db-wal") {
		if !c.upload(1) {
			t.Fatal("it is full")
		}
		if journal > pages*4096 && size("gateway.db-wal") == journal { // it is used from its beginning again
			break
		}
	}
	for range 2 { // full and healed, time and again
		before, journal := size("gateway.db"), size("gateway.db-wal")
		room := testkit.Fill(t, disk)
		acknowledged := c.uploadUntilFull(1)
		if acknowledged == 0 || size("gateway.db") != before || size("gateway.db-wal") > journal+4096 {
			t.Errorf("%d files were acknowledged; the database grew from %d to %d bytes, the journal from %d to %d", acknowledged, before, size("gateway.db"), journal, size("gateway.db-wal"))
		}
		t.Logf("%d files were acknowledged at a full disk, in %d bytes of journal", acknowledged, journal)
		c.kill() // with what the journal alone has
		c.run()
		c.checkFiles()
		room()
		if !c.upload(1) {
			t.Error("with room an upload is refused")
		}
		for range 300 {
			c.upload(1)
		}
		if size("gateway.db") <= before {
			t.Error("with room the journal is not taken into the database")
		}
	}
	c.checkFiles()
	c.end()
}
