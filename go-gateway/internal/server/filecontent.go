package server

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/store"
)

const downloadChunk = 64 << 10

// oneRange is the only form of Range that is taken; others are ignored, as they may be.
var oneRange = regexp.MustCompile(`^bytes=(\d{0,18})-(\d{0,18})$`)

// getFileContent serves GET /v1/files/{id}/content.
func (s *Server) getFileContent(ex *exchange) error {
	id, err := ex.fileID()
	if err != nil {
		return err
	}
	stored, content, err := s.Files.Open(ex.request.Context(), ex.principal.Tenant, id)
	if err != nil {
		return err
	}
	defer content.Close()
	first, length, err := ex.contentRange(stored)
	if err != nil {
		return err
	}
	return s.download(ex, stored, io.NewSectionReader(content, first, length), first, length)
}

// contentRange is which bytes of a file are asked for.
func (ex *exchange) contentRange(stored store.File) (first, length int64, err error) {
	header := ex.request.Header
	asked := oneRange.FindStringSubmatch(header.Get("Range"))
	if condition := header.Get("If-Range"); asked == nil || asked[1]+asked[2] == "" || (condition != "" && condition != etag(stored)) {
		return 0, stored.Bytes, nil
	}
	last := stored.Bytes - 1
	switch begin, end := parseOffset(asked[1]), parseOffset(asked[2]); {
	case asked[1] == "":
		first = max(0, stored.Bytes-end)
		if end == 0 {
			first = stored.Bytes
		}
	case asked[2] == "":
		first = begin
	case end < begin:
		return 0, stored.Bytes, nil // no range
	default:
		first, last = begin, min(last, end)
	}
	if first >= stored.Bytes {
		ex.header().Set("Content-Range", fmt.Sprintf("bytes */%d", stored.Bytes))
		return 0, 0, fault.New(fault.RangeNotSatisfiable, "The file has %d bytes, and none of those that Range asks for.", stored.Bytes)
	}
	return first, last - first + 1, nil
}

func parseOffset(digits string) int64 {
	offset, _ := strconv.ParseInt(digits, 10, 64) // of digits that fit
	return offset
}

func etag(stored store.File) string { return `"` + stored.SHA256 + `"` }

// download replies with a part of a file. A client that reads too slowly is cut off: the status is out by then.
func (s *Server) download(ex *exchange, stored store.File, content io.Reader, first, length int64) error {
	header := ex.header()
	header.Set("Content-Type", "application/octet-stream")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": stored.Name}))
	header.Set("Content-Length", strconv.FormatInt(length, 10))
	header.Set("Accept-Ranges", "bytes")
	header.Set("Etag", etag(stored))
	header.Set("X-Request-Id", ex.requestID)
	header.Set("Server-Timing", serverTiming(ex.usage.Timings(), time.Since(ex.start)))
	ex.status = http.StatusOK
	if length != stored.Bytes {
		ex.status = http.StatusPartialContent
		header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, first+length-1, stored.Bytes))
	}
	if s.draining.Load() {
		header.Set("Connection", "close")
	}
	ex.writer.WriteHeader(ex.status)
	if ex.request.Method == http.MethodHead {
		return nil
	}
	controller, start := http.NewResponseController(ex.writer), time.Now()
	buffer := make([]byte, downloadChunk)
	for sent := int64(0); sent < length; {
		n, err := content.Read(buffer)
		if err != nil {
			panic(fmt.Errorf("the content of file %s: %w", stored.ID, err)) // half a reply is out
		}
		_ = controller.SetWriteDeadline(paceDeadline(s, start, sent))
		if _, err := ex.writer.Write(buffer[:n]); err != nil {
			ex.status, ex.failure = openai.StatusClientClosedRequest, clientGone(err)
			return nil
		}
		sent += int64(n)
	}
	return nil
}
