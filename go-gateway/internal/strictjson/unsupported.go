package strictjson

import (
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
)

// maxNames is how many fields are named at once; more are counted.
const maxNames = 16

// Decoder reads JSON, and notes the fields that are not taken: reading goes on behind them, so that all are named at once.
type Decoder struct {
	*jsontext.Decoder
	unsupported, unknown Names
}

// Names are fields of a request.
type Names struct {
	List []string // the first maxNames
	More int      // how many there are beside them

	quoted int // bytes at the end of the first name that are the client's own text
}

func (n *Names) add(name string, quoted int) {
	if len(n.List) == maxNames {
		n.More++
		return
	}
	if len(n.List) == 0 {
		n.quoted = quoted
	}
	n.List = append(n.List, name)
}

// and returns the names of both.
func (n Names) and(others Names) Names {
	if len(n.List) == 0 {
		return others
	}
	for _, name := range others.List {
		n.add(name, 0)
	}
	n.More += others.More
	return n
}

// String lists the names.
func (n Names) String() string { return fault.Listed(n.List, n.More) }

// refusal is the fault of them; nil if there are none.
func (n Names) refusal() error {
	if len(n.List) == 0 {
		return nil
	}
	subject := "The field %s is"
	if len(n.List) > 1 {
		subject = "The fields %s are"
	}
	found := fault.InField(fault.UnsupportedParameter, n.List[0],
		subject+" not supported here; nothing is ignored silently.", n)
	found.Quoted = n.quoted
	return found
}

// Refuse notes that a field is not taken, whatever it holds.
func (d *Decoder) Refuse(name string) { d.unsupported.add(name, 0) }

// Unsupported refuses a field, but for null, which counts as absent.
func Unsupported(decoder *Decoder, name string) error {
	decoder.Refuse(name)
	return decoder.SkipValue()
}
