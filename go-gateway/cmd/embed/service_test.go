package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"go.uber.org/goleak"

	"triptych.dev/gateway/cmd/embed/internal/output"
	"triptych.dev/gateway/internal/workpool"
)

// asChild has this binary be the program, which tests start and kill.
const asChild = "EMBED_AS_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

const (
	dimensions = 8
	modelName  = "a-model"
)

// service stands for the API: a vector is a hash of revision and text.
type service struct {
	*httptest.Server
	// answer may take a request on itself. It is called without a lock.
	answer func(w http.ResponseWriter, texts []string) bool

	mutex    sync.Mutex
	revision string // that is served; listed is what is said of it, if that is another
	listed   string
	silent   bool // it does not say the revision of a reply
	embedded map[string]int
	requests int
}

func startService(t testing.TB) *service {
	s := &service{revision: "r1", embedded: map[string]int{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func vectorOf(revision, text string) []byte {
	sum := sha256.Sum256([]byte(revision + "\n" + text))
	return sum[:4*dimensions]
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mutex.Lock()
	revision, listed := s.revision, s.listed
	s.mutex.Unlock()
	if listed == "" {
		listed = revision
	}
	if r.URL.Path == "/v1/models/"+modelName {
		_, _ = fmt.Fprintf(w, `{"id":%q,"task":"embedding","revision":%q,"limits":{"max_inputs":50}}`, modelName, listed)
		return
	}
	var request struct {
		Model    string   `json:"model"`
		Encoding string   `json:"encoding_format"`
		Input    []string `json:"input"`
	}
	if err := json.UnmarshalRead(r.Body, &request); err != nil || request.Model != modelName || request.Encoding != "base64" ||
		r.Header.Get("Authorization") != "Bearer secret" || r.URL.Path != "/v1/embeddings" || len(request.Input) > 50 {
		refuse(w, http.StatusNotFound, "unexpected", "", fmt.Sprint(r.URL, err, request.Model, r.Header))
		return
	}
	s.mutex.Lock()
	s.requests++
	s.mutex.Unlock()
	if s.answer != nil && s.answer(w, request.Input) {
		return
	}
	s.reply(w, revision, request.Input)
}

func (s *service) reply(w http.ResponseWriter, revision string, texts []string) {
	s.mutex.Lock()
	for _, text := range texts {
		s.embedded[text]++
	}
	s.mutex.Unlock()
	if !s.silent {
		w.Header().Set("X-Model-Revision", revision)
	}
	var data []string
	for i := range texts { // the last one first: it is the index that counts
		i = len(texts) - 1 - i
		data = append(data, fmt.Sprintf(`{"index":%d,"embedding":%q}`, i, base64.StdEncoding.EncodeToString(vectorOf(revision, texts[i]))))
	}
	_, _ = fmt.Fprintf(w, `{"object":"list","data":[%s],"usage":{"prompt_tokens":%d}}`, strings.Join(data, ","), 3*len(texts))
}

func refuse(w http.ResponseWriter, status int, code, param, message string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"error":{"message":%q,"type":"t","param":%q,"code":%q}}`, message, param, code)
}

// sent is how many texts have been embedded, and how many of them more than once; it begins anew.
func (s *service) sent() (texts, twice int) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, times := range s.embedded {
		texts += times
		twice += times - 1
	}
	s.embedded = map[string]int{}
	return texts, twice
}

func (s *service) serve(revision string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.revision = revision
}

// quick is a retry that a test does not wait for.
var quick = workpool.Retry{Attempts: 4, Base: time.Millisecond, Max: 10 * time.Millisecond, Budget: 1, If: again}

// command is the program's arguments for a folder.
func (s *service) command(folder string, inputs ...string) []string {
	arguments := []string{"--url", s.URL, "--model", modelName, "--output", filepath.Join(folder, "out"), "--id-field", "id", "--batch", "10"}
	for _, input := range inputs {
		arguments = append(arguments, "--input", input)
	}
	return arguments
}

func environment(name string) (string, bool) { return "secret", name == "OPENAI_API_KEY" }

// start runs the program in this process and checks its exit code.
func start(t testing.TB, ctx context.Context, want int, arguments ...string) (said string) {
	t.Helper()
	var stderr bytes.Buffer
	if got := run(ctx, arguments, environment, &stderr, quick); got != want {
		t.Fatalf("exit code %d, and not %d; it said\n%s", got, want, &stderr)
	}
	return stderr.String()
}

// docs writes texts as JSONL, whose ids are id-0 and so on.
func docs(t testing.TB, folder string, texts ...string) string {
	t.Helper()
	var content bytes.Buffer
	for i, text := range texts {
		line, err := json.Marshal(map[string]string{"id": fmt.Sprint("id-", i), "text": text})
		if err != nil {
			t.Fatal(err)
		}
		content.Write(append(line, '\n'))
	}
	path := filepath.Join(folder, "docs.jsonl")
	if err := os.WriteFile(path, content.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// numbered are so many texts.
func numbered(count int) (texts []string) {
	for n := range count {
		texts = append(texts, fmt.Sprint("text ", n))
	}
	return texts
}

// holds checks the result: these texts in their order, by one revision. An empty text is none of the result.
func holds(t testing.TB, folder, revision string, texts ...string) {
	t.Helper()
	npy, err := os.ReadFile(filepath.Join(folder, "out", output.VectorsNPY))
	if err != nil {
		t.Fatal(err)
	}
	ids, err := os.ReadFile(filepath.Join(folder, "out", output.IDs))
	if err != nil {
		t.Fatal(err)
	}
	size := 10 + int(binary.LittleEndian.Uint16(npy[8:]))
	var vectors, lines bytes.Buffer
	rows := 0
	for i, text := range texts {
		if text != "" {
			rows++
			vectors.Write(vectorOf(revision, text))
			_, _ = fmt.Fprintf(&lines, "{\"id\":\"id-%d\",\"content_hash\":\"%x\"}\n", i, sha256.Sum256([]byte(text)))
		}
	}
	if shape := fmt.Sprintf("'shape': (%d, %d)", rows, dimensions); !strings.Contains(string(npy[:size]), shape) {
		t.Errorf("the header is %q and not of %s", npy[:size], shape)
	}
	if !bytes.Equal(npy[size:], vectors.Bytes()) {
		t.Error("the vectors are not those of the texts")
	}
	if !bytes.Equal(ids, lines.Bytes()) {
		t.Errorf("the ids are\n%.500s\nand not\n%.500s", ids, &lines)
	}
	if left, _ := filepath.Glob(filepath.Join(folder, "out/cache/*/claims/*")); len(left) > 0 {
		t.Errorf("%v are still claimed", left)
	}
}

func failures(t testing.TB, folder string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(folder, "out", failedFile))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
