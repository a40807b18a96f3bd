package server

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/strictjson"
)

const (
	maxFormFields = 16
	maxFieldBytes = 256
	// maxFormHeaders are the bytes of a field's headers, with what the reader has read ahead.
	maxFormHeaders = 16 << 10
	maxBoundary    = 70 // RFC 2046, section 5.1.1
)

// uploadForm is the form of an upload, whose fields come in any order. Its errors are *fault.Fault.
type uploadForm struct {
	ex     *exchange
	bound  boundedReader
	reader *multipart.Reader
	about  files.About
	seen   map[string]bool
}

// boundedReader ends with an error behind so many bytes, unless left is negative.
type boundedReader struct {
	from io.Reader
	left int
}

func (r *boundedReader) Read(p []byte) (int, error) {
	if r.left < 0 {
		return r.from.Read(p)
	}
	if r.left == 0 {
		return 0, fault.New(fault.InvalidValue, "A field of the form has headers of more than %d bytes, or the form does not begin with its boundary.", maxFormHeaders)
	}
	n, err := r.from.Read(p[:min(len(p), r.left)])
	r.left -= n
	return n, err
}

func newUploadForm(ex *exchange, body io.Reader) (*uploadForm, error) {
	header := ex.request.Header
	if err := checkEncoding(header); err != nil {
		return nil, err
	}
	kind, parameters, err := mime.ParseMediaType(header.Get("Content-Type"))
	boundary := parameters["boundary"]
	if err != nil || kind != "multipart/form-data" || boundary == "" || len(boundary) > maxBoundary {
		return nil, fault.New(fault.InvalidValue, "Content-Type must be multipart/form-data with a boundary, not %.100q.", header.Get("Content-Type"))
	}
	form := &uploadForm{ex: ex, seen: map[string]bool{}}
	form.bound.from = body
	form.reader = multipart.NewReader(&form.bound, boundary)
	return form, nil
}

// receive reads the whole form, its file into an upload.
func (f *uploadForm) receive(ctx context.Context, upload *files.Upload) (files.About, error) {
	for {
		f.bound.left = maxFormHeaders
		part, err := f.reader.NextRawPart()
		if err == io.EOF { // and nothing that wraps it: the form is torn then
			break
		}
		if err != nil {
			return files.About{}, explainForm(err)
		}
		f.bound.left = -1
		if err := f.take(ctx, part, upload); err != nil {
			return files.About{}, err
		}
	}
	f.bound.left = -1
	for _, name := range []string{"file", "purpose"} {
		if !f.seen[name] {
			return files.About{}, strictjson.Missing(name)
		}
	}
	if f.seen["expires_after[anchor]"] != f.seen["expires_after[seconds]"] {
		return files.About{}, fault.InField(fault.MissingField, "expires_after", "expires_after needs both expires_after[anchor] and expires_after[seconds].")
	}
	return f.about, f.about.Check()
}

func (f *uploadForm) take(ctx context.Context, part *multipart.Part, upload *files.Upload) error {
	name := part.FormName()
	if f.seen[name] {
		return fault.InField(fault.InvalidValue, known(name), "The form has the field %q twice.", strictjson.Clip(name))
	}
	if len(f.seen) == maxFormFields {
		return fault.New(fault.InvalidValue, "The form has more than %d fields.", maxFormFields)
	}
	f.seen[name] = true
	if encoding := part.Header.Get("Content-Transfer-Encoding"); encoding != "" && encoding != "binary" && encoding != "8bit" && encoding != "7bit" {
		return fault.InField(fault.InvalidValue, known(name), "Content-Transfer-Encoding must be absent: fields are taken as they are.")
	}
	if name == "file" {
		return f.takeFile(ctx, part, upload)
	}
	value, err := io.ReadAll(io.LimitReader(part, maxFieldBytes+1))
	if err != nil {
		return explainForm(err)
	}
	if len(value) > maxFieldBytes {
		return fault.InField(fault.InvalidValue, known(name), "The field %q has more than %d bytes.", strictjson.Clip(name), maxFieldBytes)
	}
	return f.takeField(name, string(value))
}

func (f *uploadForm) takeField(name, value string) error {
	switch name {
	case "purpose":
		f.about.Purpose = value
		return files.CheckPurpose(value)
	case "expires_after[anchor]":
		if value != "created_at" {
			return fault.InField(fault.InvalidValue, name, "expires_after[anchor] must be \"created_at\", not %.64q.", value)
		}
	case "expires_after[seconds]":
		seconds, err := strconv.ParseInt(value, 10, 32)
		if err != nil || seconds <= 0 {
			return fault.InField(fault.InvalidValue, name, "expires_after[seconds] must be a whole number, not %.64q.", value)
		}
		f.about.Lifetime = time.Duration(seconds) * time.Second
	default:
		shown := strictjson.Clip(name)
		if !f.ex.server.IgnoreUnknownFields {
			return strictjson.Quoting(shown, fault.InField(fault.UnsupportedParameter, shown, "The form's field %q is not known here.", shown))
		}
		f.ex.header().Add("Warning", `299 - "Ignored: `+headerText(strconv.Quote(shown))+`"`)
	}
	return nil
}

func (f *uploadForm) takeFile(ctx context.Context, part *multipart.Part, upload *files.Upload) error {
	f.about.Name = part.FileName()
	if f.about.Purpose != "" {
		if err := f.about.Check(); err != nil {
			return err
		}
	}
	err := upload.Write(ctx, explained{part}, f.about.Purpose)
	if _, said := errors.AsType[*fault.Fault](err); err != nil && !said && ctx.Err() != nil {
		return clientGone(err)
	}
	return err
}

// explained makes faults of what is wrong with a form.
type explained struct{ part io.Reader }

func (e explained) Read(p []byte) (int, error) {
	n, err := e.part.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = explainForm(err)
	}
	return n, err
}

func explainForm(err error) error {
	if said, is := errors.AsType[*fault.Fault](err); is {
		return said
	}
	if _, malformed := errors.AsType[textproto.ProtocolError](err); malformed || errors.Is(err, multipart.ErrMessageTooLarge) ||
		errors.Is(err, io.ErrUnexpectedEOF) || strings.HasPrefix(err.Error(), "multipart: ") || strings.HasPrefix(err.Error(), "mime: ") {
		return fault.New(fault.InvalidValue, "The body is no whole multipart/form-data: it must end with its boundary, and each field must have good headers.")
	}
	return fault.InternalError(err)
}

// known is a field's name for "param", where it is ours.
func known(name string) string {
	switch name {
	case "file", "purpose", "expires_after[anchor]", "expires_after[seconds]":
		return name
	default:
		return ""
	}
}
