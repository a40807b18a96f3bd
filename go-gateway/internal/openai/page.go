package openai

import "github.com/go-json-experiment/json"

// page is a part of a list of what is kept here. The next one follows the last id.
type page[Object any] struct {
	Object  string   `json:"object"` // "list"
	Data    []Object `json:"data"`
	FirstID *string  `json:"first_id"` // null where there is none
	LastID  *string  `json:"last_id"`
	HasMore bool     `json:"has_more"`
}

// renderPage returns a page of rows, each of which has an id and is an object.
func renderPage[Row, Object any](rows []Row, more bool, render func(Row) (string, Object)) ([]byte, error) {
	list := page[Object]{Object: "list", Data: make([]Object, len(rows)), HasMore: more}
	for i, row := range rows {
		id, object := render(row)
		list.Data[i] = object
		if i == 0 {
			list.FirstID = &id
		}
		list.LastID = &id
	}
	return json.Marshal(list)
}
