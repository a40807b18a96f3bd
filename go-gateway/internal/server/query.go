package server

import (
	"net/url"
	"slices"
	"strconv"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/strictjson"
)

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

// parseLimit reads how many entries a page is to have.
func parseLimit(limit string, most int) (int, error) {
	size, err := strconv.Atoi(limit)
	if err != nil || size < 1 || size > most {
		return 0, fault.InField(fault.InvalidValue, "limit", "limit must be a whole number from 1 to %d, not %.64q.", most, limit)
	}
	return size, nil
}
