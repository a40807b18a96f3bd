package openai

import (
	"errors"
	"fmt"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// progress holds a stream of the hot path to its contract: choices that were asked for, each of which ends once.
type progress struct {
	finished []bool
	left     int // choices that go on
}

func newProgress(choices int) progress {
	return progress{finished: make([]bool, choices), left: choices}
}

func (p *progress) check(delta *inferencev1.GenerateDelta) error {
	choice := int(delta.GetChoice())
	if choice >= len(p.finished) || p.finished[choice] {
		return fmt.Errorf("the hot path went on with choice %d of %d, which ended or was not asked for", choice, len(p.finished))
	}
	if delta.GetFinish() != nil {
		p.finished[choice] = true
		p.left--
	}
	return nil
}

// ended returns an error unless all choices have ended.
func (p *progress) ended() error {
	if p.left > 0 {
		return fmt.Errorf("the hot path ended a stream of %d choices with %d of them going on", len(p.finished), p.left)
	}
	return nil
}

// finish is why a choice ended, in OpenAI's word and, where it is a stop, ours: a string or a token id.
type finish struct {
	FinishReason string `json:"finish_reason"`
	StopReason   any    `json:"stop_reason,omitzero"`
}

func finishOf(ended *inferencev1.Finish) (finish, error) {
	switch reason := ended.GetReason().(type) {
	case *inferencev1.Finish_Length:
		return finish{FinishReason: "length"}, nil
	case *inferencev1.Finish_StopTokenId:
		return finish{"stop", reason.StopTokenId}, nil
	case *inferencev1.Finish_StopString:
		return finish{"stop", reason.StopString}, nil
	default:
		return finish{}, errors.New("the hot path gave no reason for a choice's end")
	}
}

// outputTokens are a step's tokens that are part of what the choice says: the one at which it stops is not.
func outputTokens(delta *inferencev1.GenerateDelta) []*inferencev1.GeneratedToken {
	tokens := delta.GetTokens()
	stop, stopped := delta.GetFinish().GetReason().(*inferencev1.Finish_StopTokenId)
	if last := len(tokens) - 1; stopped && last >= 0 && tokens[last].GetId() == stop.StopTokenId {
		return tokens[:last]
	}
	return tokens
}
