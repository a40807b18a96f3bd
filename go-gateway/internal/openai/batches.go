package openai

import (
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/batch"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/strictjson"
)

// Bounds of metadata, which are OpenAI's.
const (
	maxMetadata      = 16
	maxMetadataKey   = 64  // characters
	maxMetadataValue = 512 // characters
)

// Batch reads the body of POST /v1/batches. Errors are *fault.Fault.
func (d *Decoder) Batch(body []byte, ignored *strictjson.Names) (batch.Asked, error) {
	var file, endpoint, window *string
	var asked batch.Asked
	err := strictjson.Decode(body, strictjson.Fields{
		"input_file_id": strictjson.String(&file), "endpoint": strictjson.String(&endpoint), "completion_window": strictjson.String(&window),
		"metadata": metadata(&asked.Metadata), "output_expires_after": lifetime(&asked.OutputLifetime),
	}, ignored)
	switch {
	case err != nil:
		return batch.Asked{}, err
	case file == nil:
		return batch.Asked{}, strictjson.Missing("input_file_id")
	case endpoint == nil:
		return batch.Asked{}, strictjson.Missing("endpoint")
	case window == nil:
		return batch.Asked{}, strictjson.Missing("completion_window")
	case *window != batch.Window:
		return batch.Asked{}, fault.InField(fault.InvalidValue, "completion_window", "completion_window must be %q, not %.64q.", batch.Window, *window)
	}
	asked.File, asked.Endpoint = *file, *endpoint
	return asked, nil
}

// lifetime reads for how long a file is to be kept.
func lifetime(destination *time.Duration) strictjson.Field {
	return func(decoder *strictjson.Decoder, name string) error {
		var anchor *string
		err := strictjson.Object(strictjson.Fields{
			"anchor": strictjson.String(&anchor),
			"seconds": strictjson.Whole(int64(files.MinLifetime/time.Second), int64(files.MaxLifetime/time.Second), func(seconds int64) {
				*destination = time.Duration(seconds) * time.Second
			}),
		})(decoder, name)
		switch {
		case err != nil:
			return err
		case anchor == nil:
			return strictjson.Missing(name + ".anchor")
		case *anchor != "created_at":
			return fault.InField(fault.InvalidValue, name+".anchor", "%s.anchor must be \"created_at\", not %.64q.", name, *anchor)
		case *destination == 0:
			return strictjson.Missing(name + ".seconds")
		}
		return nil
	}
}

// metadata reads an object of strings, and keeps it as it is.
func metadata(destination *string) strictjson.Field {
	return func(decoder *strictjson.Decoder, name string) error {
		if err := strictjson.ExpectKind(decoder, jsontext.KindBeginObject, name, "an object"); err != nil {
			return err
		}
		pairs := map[string]string{}
		err := strictjson.Members(decoder, func(key string) error {
			value, err := strictjson.ReadString(decoder, name, "an object of strings")
			switch {
			case err != nil:
				return err
			case len(pairs) == maxMetadata:
				return fault.InField(fault.InvalidValue, name, "%s has more than %d entries.", name, maxMetadata)
			case utf8.RuneCountInString(key) > maxMetadataKey || utf8.RuneCountInString(value) > maxMetadataValue:
				return fault.InField(fault.InvalidValue, name, "A key of %s has at most %d characters, and its value at most %d.", name, maxMetadataKey, maxMetadataValue)
			}
			pairs[key] = value
			return nil
		})
		if err != nil {
			return err
		}
		text, err := json.Marshal(pairs, json.Deterministic(true))
		*destination = string(text)
		return err
	}
}

// batchObject is OpenAI's batch.
type batchObject struct {
	ID               string         `json:"id"`
	Object           string         `json:"object"`
	Endpoint         string         `json:"endpoint"`
	Model            *string        `json:"model"` // null: lines name several
	Errors           *batchErrors   `json:"errors"`
	InputFileID      string         `json:"input_file_id"`
	CompletionWindow string         `json:"completion_window"`
	Status           string         `json:"status"`
	OutputFileID     *string        `json:"output_file_id"`
	ErrorFileID      *string        `json:"error_file_id"`
	CreatedAt        int64          `json:"created_at"` // Unix seconds, as all of these; null until it happens
	InProgressAt     *int64         `json:"in_progress_at"`
	ExpiresAt        int64          `json:"expires_at"`
	FinalizingAt     *int64         `json:"finalizing_at"`
	CompletedAt      *int64         `json:"completed_at"`
	FailedAt         *int64         `json:"failed_at"`
	ExpiredAt        *int64         `json:"expired_at"`
	CancellingAt     *int64         `json:"cancelling_at"`
	CancelledAt      *int64         `json:"cancelled_at"`
	RequestCounts    requestCounts  `json:"request_counts"`
	Usage            batchUsage     `json:"usage"`
	Metadata         jsontext.Value `json:"metadata"`
}

type batchErrors struct {
	Object string       `json:"object"`
	Data   []batchError `json:"data"`
}

type batchError struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Param   *string `json:"param"`
	Line    *int64  `json:"line"`
}

type requestCounts struct {
	Total     int64 `json:"total"`
	Completed int64 `json:"completed"`
	Failed    int64 `json:"failed"`
}

type batchUsage struct {
	InputTokens        int64 `json:"input_tokens"`
	InputTokensDetails struct {
		CachedTokens int64 `json:"cached_tokens"`
	} `json:"input_tokens_details"`
	OutputTokens        int64 `json:"output_tokens"`
	OutputTokensDetails struct {
		ReasoningTokens int64 `json:"reasoning_tokens"`
	} `json:"output_tokens_details"`
	TotalTokens int64 `json:"total_tokens"`
}

// RenderBatch returns the reply about one batch.
func RenderBatch(stored store.Batch) ([]byte, error) { return json.Marshal(batchOf(stored)) }

// RenderBatches returns the reply to GET /v1/batches.
func RenderBatches(stored []store.Batch, more bool) ([]byte, error) {
	return renderPage(stored, more, func(one store.Batch) (string, batchObject) { return one.ID, batchOf(one) })
}

func batchOf(stored store.Batch) batchObject {
	object := batchObject{
		ID: stored.ID, Object: "batch", Endpoint: stored.Endpoint, Model: orNull(stored.Model), InputFileID: stored.File,
		CompletionWindow: batch.Window, Status: stored.State, OutputFileID: orNull(stored.Output), ErrorFileID: orNull(stored.Errors),
		CreatedAt: stored.Created.Unix(), InProgressAt: unixSeconds(stored.Created), ExpiresAt: stored.Expires.Unix(),
		FinalizingAt: unixSeconds(stored.Finalizing), CancellingAt: unixSeconds(stored.Cancelling),
		RequestCounts: requestCounts{stored.Lines, stored.Done, stored.Failed}, Metadata: jsontext.Value("null"),
	}
	if stored.Metadata != "" {
		object.Metadata = jsontext.Value(stored.Metadata)
	}
	for state, at := range map[string]**int64{
		store.BatchCompleted: &object.CompletedAt, store.BatchFailed: &object.FailedAt,
		store.BatchExpired: &object.ExpiredAt, store.BatchCancelled: &object.CancelledAt,
	} {
		if stored.State == state {
			*at = unixSeconds(stored.Ended)
		}
	}
	if stored.Error != "" {
		object.Errors = &batchErrors{"list", []batchError{{Code: "internal_error", Message: stored.Error}}}
	}
	object.Usage = usageOfBatch(stored.Tokens)
	return object
}

func usageOfBatch(tokens store.BatchTokens) batchUsage {
	usage := batchUsage{InputTokens: tokens.Input, OutputTokens: tokens.Output, TotalTokens: tokens.Input + tokens.Output}
	usage.InputTokensDetails.CachedTokens = tokens.Cached
	return usage
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
