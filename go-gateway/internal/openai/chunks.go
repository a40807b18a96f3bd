package openai

import (
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/telemetry"
)

// Heartbeat is a server-sent event that clients skip.
const Heartbeat = ": still here\n\n"

const (
	eventStart = "data: "
	eventEnd   = "\n\n"
	streamEnd  = eventStart + "[DONE]" + eventEnd
)

// Chunks renders one stream: each step of the hot path becomes the server-sent events of its own. It is written by hand
// because there is one for each token.
//
// Its errors mean that the hot path broke its contract.
type Chunks struct {
	request    *GenerationRequest
	progress   progress
	head       []byte // of every chunk: up to its choices
	tail       string // of every chunk but the last: after its choices
	opened     []bool // choices whose opening is out
	offsets    []int  // characters of each choice so far, where log-probabilities need them
	finalChunk []byte // the last choice's end, which waits for the timings
}

// NewChunks begins a stream. id is the reply's, without its prefix.
func NewChunks(request *GenerationRequest, id string, created time.Time) (*Chunks, error) {
	head := append([]byte(eventStart), `{"id":"`...)
	head = append(head, request.Dialect.idPrefix+id+`","object":"`+request.Dialect.chunkObject+`","created":`...)
	head = strconv.AppendInt(head, created.Unix(), 10)
	head = append(head, `,"model":`...)
	head, err := jsontext.AppendQuote(head, request.Generate.GetModel())
	if err != nil {
		return nil, err
	}
	tail := "}" + eventEnd
	if request.IncludeUsage {
		tail = `,"usage":null` + tail
	}
	choices := request.Choices()
	return &Chunks{
		request: request, progress: newProgress(choices), head: append(head, `,"choices":[`...), tail: "]" + tail,
		opened: make([]bool, choices), offsets: make([]int, choices),
	}, nil
}

// AppendDelta appends the events of one step, which may be none.
func (c *Chunks) AppendDelta(buffer []byte, delta *inferencev1.GenerateDelta) ([]byte, error) {
	if err := c.progress.check(delta); err != nil {
		return nil, err
	}
	choice := int(delta.GetChoice())
	if opening := c.request.Dialect.opening; opening != "" && !c.opened[choice] {
		c.opened[choice] = true
		buffer = c.appendChoice(buffer, choice)
		buffer = append(buffer, opening+`,"logprobs":null,"finish_reason":null}`...)
		buffer = append(buffer, c.tail...)
	}
	tokens := outputTokens(delta)
	if delta.GetText() != "" || c.request.Generate.TopLogprobs != nil && len(tokens) > 0 {
		var err error
		if buffer, err = c.appendText(buffer, delta, tokens); err != nil {
			return nil, err
		}
	}
	if delta.GetFinish() == nil {
		return buffer, nil
	}
	end, err := c.appendEnd(nil, delta)
	if err != nil {
		return nil, err
	}
	if c.progress.left == 0 {
		c.finalChunk = end
		return buffer, nil
	}
	buffer = append(buffer, end...)
	return append(buffer, c.tail...), nil
}

func (c *Chunks) appendChoice(buffer []byte, choice int) []byte {
	buffer = append(buffer, c.head...)
	buffer = append(buffer, `{"index":`...)
	return strconv.AppendInt(buffer, int64(choice), 10)
}

func (c *Chunks) appendText(
	buffer []byte, delta *inferencev1.GenerateDelta, tokens []*inferencev1.GeneratedToken,
) ([]byte, error) {
	choice := int(delta.GetChoice())
	buffer = c.appendChoice(buffer, choice)
	buffer = append(buffer, c.request.Dialect.text[0]...)
	buffer, err := jsontext.AppendQuote(buffer, delta.GetText())
	if err != nil {
		return nil, err
	}
	buffer = append(buffer, c.request.Dialect.text[1]...)
	buffer = append(buffer, `,"logprobs":`...)
	if buffer, c.offsets[choice], err = c.request.appendLogprobs(buffer, tokens, c.offsets[choice]); err != nil {
		return nil, err
	}
	buffer = append(buffer, `,"finish_reason":null}`...)
	return append(buffer, c.tail...), nil
}

// appendEnd writes the chunk that ends a choice, without its tail.
func (c *Chunks) appendEnd(buffer []byte, delta *inferencev1.GenerateDelta) ([]byte, error) {
	buffer = c.appendChoice(buffer, int(delta.GetChoice()))
	buffer = append(buffer, c.request.Dialect.ending+`,"logprobs":null,`...)
	end, err := finishOf(delta.GetFinish())
	if err != nil {
		return nil, err
	}
	members, err := json.Marshal(end)
	if err != nil {
		return nil, err
	}
	return append(buffer, members[1:]...), nil // without its {
}

// AppendDone appends the end of a stream that went well. Where the time went is in the last chunk, since its headers
// are long gone: with the counts, where they were asked for, or else with the end of the last choice.
func (c *Chunks) AppendDone(buffer []byte, done *inferencev1.GenerateDone, phases []telemetry.Phase) ([]byte, error) {
	if err := c.progress.ended(); err != nil {
		return nil, err
	}
	buffer = append(buffer, c.finalChunk...)
	if c.request.IncludeUsage {
		buffer = append(buffer, c.tail...)
		buffer = append(buffer, c.head...)
		buffer = append(buffer, `],"usage":`...)
		usage, err := json.Marshal(usageOf(done))
		if err != nil {
			return nil, err
		}
		buffer = append(buffer, usage...)
	} else {
		buffer = append(buffer, ']')
	}
	buffer = append(buffer, `,"system_fingerprint":`...)
	buffer, err := jsontext.AppendQuote(buffer, done.GetRevision())
	if err != nil {
		return nil, err
	}
	buffer = append(buffer, `,"timings":`...)
	buffer = appendTimings(buffer, phases)
	return append(buffer, "}"+eventEnd+streamEnd...), nil
}

// RenderError returns the last event of a stream that broke, and the status that its fault would have had. SDKs take
// an event for an error by its data alone.
func (*Chunks) RenderError(failure *fault.Fault, requestID string) (status int, event []byte) {
	status, body := RenderError(http.Header{}, failure, requestID)
	event = append([]byte(eventStart), body...)
	return status, append(event, eventEnd...)
}
