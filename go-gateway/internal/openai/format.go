package openai

import (
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/strictjson"
)

// responseFormat is the field of that name: what the text must parse as.
type responseFormat struct {
	name   string // of the field; empty while it is absent
	kind   *string
	object bool // json_schema was sent
	schema jsontext.Value
}

func (f *responseFormat) read(decoder *strictjson.Decoder, name string) error {
	f.name = name
	return strictjson.Object(strictjson.Fields{
		"type":        strictjson.String(&f.kind),
		"json_schema": f.readSchema,
	})(decoder, name)
}

// readSchema reads the schema and what stands round it. The text always obeys the schema, so strict changes nothing.
func (f *responseFormat) readSchema(decoder *strictjson.Decoder, name string) error {
	f.object = true
	var label *string
	var strict bool
	return strictjson.Object(strictjson.Fields{
		"name":        strictjson.String(&label),
		"description": strictjson.String(&label),
		"strict":      strictjson.Bool(&strict),
		"schema": func(decoder *strictjson.Decoder, name string) error {
			if err := strictjson.ExpectKind(decoder, jsontext.KindBeginObject, name, "a JSON Schema, an object"); err != nil {
				return err
			}
			value, err := decoder.ReadValue()
			f.schema = value.Clone()
			return err
		},
	})(decoder, name)
}

// contract returns the contract's form; nil for any text.
func (f *responseFormat) contract() (*inferencev1.Format, error) {
	if f.name == "" {
		return nil, nil
	}
	if f.kind == nil {
		return nil, strictjson.Missing(f.name + ".type")
	}
	if f.object != (*f.kind == "json_schema") {
		if f.object {
			return nil, fault.InField(fault.InvalidValue, f.name+".json_schema",
				"%s.json_schema needs \"type\": \"json_schema\".", f.name)
		}
		return nil, strictjson.Missing(f.name + ".json_schema")
	}
	switch *f.kind {
	case "text":
		return nil, nil
	case "json_object":
		return &inferencev1.Format{Format: &inferencev1.Format_JsonObject{JsonObject: &inferencev1.JsonObject{}}}, nil
	case "json_schema":
		if f.schema == nil {
			return nil, strictjson.Missing(f.name + ".json_schema.schema")
		}
		return &inferencev1.Format{Format: &inferencev1.Format_JsonSchema{JsonSchema: string(f.schema)}}, nil
	default:
		return nil, fault.InField(fault.InvalidValue, f.name+".type",
			"%s.type must be \"text\", \"json_object\" or \"json_schema\", not %q.", f.name, strictjson.Clip(*f.kind))
	}
}
