package openai

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/batch"
	"triptych.dev/gateway/internal/jobs"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/strictjson"
)

// Job reads the body of POST /v1/jobs. The request in it is for its endpoint to read. Errors are *fault.Fault.
func (d *Decoder) Job(body []byte, ignored *strictjson.Names) (jobs.Asked, error) {
	var endpoint *string
	var asked jobs.Asked
	err := strictjson.Decode(body, strictjson.Fields{
		"endpoint": strictjson.String(&endpoint), "metadata": metadata(&asked.Metadata), "thresholds": thresholds(&asked.Thresholds),
		"body": func(decoder *strictjson.Decoder, name string) error {
			if err := strictjson.ExpectKind(decoder, jsontext.KindBeginObject, name, "an object"); err != nil {
				return err
			}
			value, err := decoder.ReadValue()
			asked.Body = value.Clone()
			return err
		},
	}, ignored)
	switch {
	case err != nil:
		return jobs.Asked{}, err
	case endpoint == nil:
		return jobs.Asked{}, strictjson.Missing("endpoint")
	case asked.Body == nil:
		return jobs.Asked{}, strictjson.Missing("body")
	}
	asked.Endpoint, asked.Model = *endpoint, batch.ModelOf(asked.Body)
	return asked, nil
}

// jobObject is ours: OpenAI has no such API.
type jobObject struct {
	ID        string         `json:"id"`
	Object    string         `json:"object"` // "job"
	Endpoint  string         `json:"endpoint"`
	Model     *string        `json:"model"` // null: the request names none
	Status    string         `json:"status"`
	CreatedAt int64          `json:"created_at"` // Unix seconds, as all of these
	ExpiresAt int64          `json:"expires_at"` // it is not begun after that
	EndedAt   *int64         `json:"ended_at"`   // null until then
	KeptUntil *int64         `json:"kept_until"` // null until it has ended; it is not found after that
	Response  *jobResponse   `json:"response"`   // null where there is no reply
	Error     *jobError      `json:"error"`      // why there is none
	Usage     batchUsage     `json:"usage"`
	Metadata  jsontext.Value `json:"metadata"`
	// These are absent where there are no thresholds. Verdicts are absent in lists, and both null before there are any.
	Thresholds jsontext.Value `json:"thresholds,omitzero"`
	Verdict    jsontext.Value `json:"verdict,omitzero"`
	Verdicts   jsontext.Value `json:"verdicts,omitzero"`
}

type jobResponse struct {
	StatusCode int            `json:"status_code"`
	RequestID  string         `json:"request_id"`
	Body       jsontext.Value `json:"body,omitzero"` // absent in lists
}

type jobError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// RenderJob returns the reply about one job, of which reply is what the endpoint has replied; nil where there is none.
func RenderJob(stored *store.AsyncJob, reply []byte) ([]byte, error) {
	object := jobOf(stored)
	if object.Response != nil {
		object.Response.Body = reply
	}
	if stored.Thresholds != "" {
		var err error
		if object.Verdicts, err = verdictsOf(stored, reply); err != nil {
			return nil, err
		}
	}
	return json.Marshal(object, jsontext.AllowInvalidUTF8(true))
}

// RenderJobs returns the reply to GET /v1/jobs, without what endpoints have replied: that may be megabytes each.
func RenderJobs(stored []store.AsyncJob, more bool) ([]byte, error) {
	return renderPage(stored, more, func(one store.AsyncJob) (string, jobObject) { return one.ID, jobOf(&one) })
}

func jobOf(stored *store.AsyncJob) jobObject {
	result := &stored.Result
	object := jobObject{
		ID: stored.ID, Object: "job", Endpoint: stored.Endpoint, Model: orNull(stored.Model), Status: stored.State,
		CreatedAt: stored.Created.Unix(), ExpiresAt: stored.Expires.Unix(), EndedAt: unixSeconds(stored.Ended), KeptUntil: unixSeconds(stored.Forgotten),
		Usage: usageOfBatch(result.Tokens), Metadata: jsontext.Value("null"),
	}
	if stored.Metadata != "" {
		object.Metadata = jsontext.Value(stored.Metadata)
	}
	if stored.Thresholds != "" {
		object.Thresholds, object.Verdict = jsontext.Value(stored.Thresholds), jsontext.Value("null")
		if stored.Verdict != "" {
			object.Verdict = jsontext.Value(`"` + stored.Verdict + `"`)
		}
	}
	switch {
	case result.Status != 0:
		object.Response = &jobResponse{StatusCode: result.Status, RequestID: stored.ID}
	case result.ErrorCode != "":
		object.Error = &jobError{result.ErrorCode, result.Error}
	case stored.State == store.AsyncCancelled:
		object.Error = &jobError{"job_cancelled", "The job was cancelled before it was done."}
	case stored.State == store.AsyncExpired:
		object.Error = &jobError{"job_expired", "The request could not be run in the job's time."}
	}
	return object
}
