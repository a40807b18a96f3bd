package server

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/strictjson"
)

// Pages are those of OpenAI's batches, where nothing else is said.
const defaultPage, maxPage = 20, 100

// query returns the parameters of a request's URL, each of which is one of those that there are, once.
func query(ex *exchange, names ...string) (map[string]string, error) {
	sent, err := url.ParseQuery(ex.request.URL.RawQuery)
	if err != nil {
		return nil, fault.New(fault.InvalidValue, "The URL's query is malformed.")
	}
	values := map[string]string{}
	for name, all := range sent {
		if !slices.Contains(names, name) {
			shown := strictjson.Clip(name)
			return nil, strictjson.Quoting(shown, fault.InField(fault.UnsupportedParameter, shown,
				"The URL's parameter %q is not known here; there are %s.", shown, fault.Listed(names, 0)))
		}
		if len(all) > 1 {
			return nil, fault.InField(fault.InvalidValue, name, "The URL's parameter %q is there %d times.", name, len(all))
		}
		values[name] = all[0]
	}
	return values, nil
}

// page is which page of a list the URL asks for, after an id of a kind.
func (ex *exchange) page(ids *regexp.Regexp, of string) (after string, most int, err error) {
	asked, err := query(ex, "limit", "after")
	if err != nil {
		return "", 0, err
	}
	return readPage(asked, ids, of)
}

// readPage is page of parameters that were read.
func readPage(asked map[string]string, ids *regexp.Regexp, of string) (after string, most int, err error) {
	most = defaultPage
	if limit, said := asked["limit"]; said {
		if most, err = parseLimit(limit, maxPage); err != nil {
			return "", 0, err
		}
	}
	after, said := asked["after"]
	if said && !ids.MatchString(after) {
		return "", 0, fault.InField(fault.InvalidValue, "after", "after must be the id of a %s, not %.64q.", of, after)
	}
	return after, most, nil
}

// pathID is an id in the path, by its name there. A text that is none is not found, and reaches no database.
func (ex *exchange) pathID(name string, ids *regexp.Regexp, notFound func(id string) error) (string, error) {
	id := ex.request.PathValue(name)
	if !ids.MatchString(id) {
		return "", notFound(id)
	}
	return id, nil
}

// parseLimit reads how many entries a page is to have.
func parseLimit(limit string, most int) (int, error) {
	size, err := strconv.Atoi(limit)
	if err != nil || size < 1 || size > most {
		return 0, fault.InField(fault.InvalidValue, "limit", "limit must be a whole number from 1 to %d, not %.64q.", most, limit)
	}
	return size, nil
}
