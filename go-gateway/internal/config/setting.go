package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// setting is one row of the table. Every setting is a flag and a variable of the environment.
type setting struct {
	name         string // of the flag
	unit         string
	defaultValue string // default, as it would be written
	meaning      string
	consequence  string
	parse        func(value string) error
	show         func() string // the value in force
}

func (s setting) env() string {
	return "GATEWAY_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// usage is the text of -help; package flag takes what is in backquotes for the value's name.
func (s setting) usage() string {
	text := strings.ReplaceAll(s.meaning+" "+s.consequence, "`", "")
	return fmt.Sprintf("%s\n`%s`, default %q, or %s", text, s.unit, s.defaultValue, s.env())
}

// WriteMarkdown writes docs/config.md's table.
func WriteMarkdown(out io.Writer) error {
	var table strings.Builder
	table.WriteString("| flag | environment | default | unit | meaning and consequence |\n|---|---|---|---|---|\n")
	for _, row := range new(Settings).settings() {
		shown := "(empty)"
		if row.defaultValue != "" {
			shown = "`" + row.defaultValue + "`"
		}
		fmt.Fprintf(&table, "| `--%s` | `%s` | %s | %s | %s %s |\n",
			row.name, row.env(), shown, row.unit, row.meaning, row.consequence)
	}
	_, err := io.WriteString(out, table.String())
	return err
}

func address(name string, destination *string, defaultValue, meaning, consequence string) setting {
	return setting{name, "host:port", defaultValue, meaning, consequence,
		func(value string) error {
			*destination = value
			return checkAddress(value)
		},
		func() string { return *destination },
	}
}

// optionalAddress is an address that may be empty.
func optionalAddress(name string, destination *string, meaning, consequence string) setting {
	row := address(name, destination, "", meaning, consequence)
	check := row.parse
	row.parse = func(value string) error {
		if value == "" {
			*destination = ""
			return nil
		}
		return check(value)
	}
	return row
}

// list is a setting of several values, separated by commas. It may be empty where its default is.
func list(
	name, unit string, destination *[]string, defaultValue string, check func(string) error, meaning, consequence string,
) setting {
	return setting{name, unit, defaultValue, meaning, consequence,
		func(value string) error {
			*destination = nil
			if value == "" && defaultValue == "" {
				return nil
			}
			*destination = strings.Split(value, ",")
			var faults []error
			for _, one := range *destination {
				faults = append(faults, check(one))
			}
			return errors.Join(faults...)
		},
		func() string { return strings.Join(*destination, ",") },
	}
}

// aliases is a setting that may be empty.
func aliases(name string, destination *map[string]string, meaning, consequence string) setting {
	written := ""
	return setting{name, "alias=model,…", "", meaning, consequence,
		func(value string) error {
			written, *destination = value, map[string]string{}
			if value == "" {
				return nil
			}
			var faults []error
			for pair := range strings.SplitSeq(value, ",") {
				alias, model, _ := strings.Cut(pair, "=")
				if _, twice := (*destination)[alias]; alias == "" || model == "" || twice {
					faults = append(faults, fmt.Errorf("%q must be alias=model, each alias once", pair))
				}
				(*destination)[alias] = model
			}
			return errors.Join(faults...)
		},
		func() string { return written },
	}
}

// checkOrigin refuses what no browser sends as an origin, which would allow nobody.
func checkOrigin(value string) error {
	scheme, host, found := strings.Cut(value, "://")
	known := scheme == "http" || scheme == "https"
	if value != "*" && (!found || !known || host == "" || strings.ContainsAny(host, "/ @?#") || strings.Count(host, "*") > 1) {
		return fmt.Errorf("%q must be * or as https://app.example.com, without a path", value)
	}
	return nil
}

// maxPause bounds pauses between attempts.
const maxPause = 7 * 24 * time.Hour

func checkPause(value string) error {
	if pause, err := time.ParseDuration(value); err != nil || pause < time.Millisecond || pause > maxPause {
		return fmt.Errorf("%q must be a duration as in 30s, from 1ms to %v", value, maxPause)
	}
	return nil
}

func checkNetwork(value string) error {
	if network, err := netip.ParsePrefix(value); err != nil || network != network.Masked() {
		return fmt.Errorf("%q must be a network as 10.1.0.0/16 or fd00:1::/32, with nothing behind its prefix", value)
	}
	return nil
}

func checkAddress(value string) error {
	_, port, err := net.SplitHostPort(value)
	if err != nil {
		return fmt.Errorf("%q must be host:port", value)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q: the port must be a number from 0 to 65535", value)
	}
	return nil
}

func path(name string, destination *string, defaultValue, meaning, consequence string) setting {
	return text(name, "path", destination, defaultValue, meaning, consequence)
}

// optionalPath is a path that may be empty.
func optionalPath(name string, destination *string, meaning, consequence string) setting {
	return optionalText(name, "path", destination, meaning, consequence)
}

// httpsURL is a URL that may be empty.
func httpsURL(name string, destination *string, meaning, consequence string) setting {
	row := optionalText(name, "URL", destination, meaning, consequence)
	row.parse = func(value string) error {
		*destination = value
		parsed, err := url.Parse(value)
		if value != "" && (err != nil || parsed.Scheme != "https" || parsed.Host == "" || parsed.User != nil) {
			return errors.New("must be as https://host/path, without a password")
		}
		return nil
	}
	return row
}

// collectorURL is a URL that may be empty, of whoever is called by gRPC there.
func collectorURL(name string, destination *string, meaning, consequence string) setting {
	row := optionalText(name, "URL", destination, meaning, consequence)
	row.parse = func(value string) error {
		*destination = value
		if value == "" {
			return nil
		}
		parsed, err := url.Parse(value)
		if err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.User != nil || checkAddress(parsed.Host) != nil ||
			parsed.Hostname() == "" || strings.Trim(parsed.Path, "/") != "" || parsed.RawQuery != "" || parsed.Fragment != "" {
			return errors.New("must be as http://host:4317, or https://host:4317 for TLS, without a path or a password")
		}
		return nil
	}
	return row
}

// share is a part of something, from none of it to all.
func share(name string, destination *float64, defaultValue float64, meaning, consequence string) setting {
	show := func(value float64) string { return strconv.FormatFloat(value, 'f', -1, 64) }
	return setting{name, "share", show(defaultValue), meaning, consequence,
		func(value string) error {
			parsed, err := strconv.ParseFloat(value, 64)
			if err != nil || !(parsed >= 0 && parsed <= 1) { // which NaN is not
				return fmt.Errorf("%q must be a number from 0 to 1", value)
			}
			*destination = parsed
			return nil
		},
		func() string { return show(*destination) },
	}
}

// optionalText is a text that may be empty.
func optionalText(name, unit string, destination *string, meaning, consequence string) setting {
	return setting{name, unit, "", meaning, consequence,
		func(value string) error {
			*destination = value
			return nil
		},
		func() string { return *destination },
	}
}

// redisURL is a URL that may be empty. Its password is neither shown nor quoted.
func redisURL(name string, destination *string, meaning, consequence string) setting {
	return setting{name, "URL", "", meaning, consequence,
		func(value string) error {
			*destination = value
			parsed, err := url.Parse(value)
			if value != "" && (err != nil || !slices.Contains([]string{"redis", "rediss", "unix"}, parsed.Scheme)) {
				return errors.New("must be as redis://host:6379/0, rediss://host:6379/0 or unix://path")
			}
			return nil
		},
		func() string {
			parsed, err := url.Parse(*destination)
			if err != nil {
				return "(unreadable)"
			}
			return parsed.Redacted()
		},
	}
}

// text is a setting that may be anything but empty.
func text(name, unit string, destination *string, defaultValue, meaning, consequence string) setting {
	return setting{name, unit, defaultValue, meaning, consequence,
		func(value string) error {
			*destination = value
			if value == "" {
				return errors.New("must not be empty")
			}
			return nil
		},
		func() string { return *destination },
	}
}

// secret is a text that may be empty, and is never shown.
func secret(name, unit string, destination *string, meaning, consequence string) setting {
	return setting{name, unit, "", meaning, consequence,
		func(value string) error {
			*destination = value
			return nil
		},
		func() string {
			if *destination == "" {
				return ""
			}
			return "[redacted]"
		},
	}
}

// choice is a setting of some values, of which the first is the default.
func choice(name string, destination *string, values []string, meaning, consequence string) setting {
	allowed := strings.Join(values, " or ")
	return setting{name, allowed, values[0], meaning, consequence,
		func(value string) error {
			*destination = value
			if !slices.Contains(values, value) {
				return fmt.Errorf("%q must be %s", value, allowed)
			}
			return nil
		},
		func() string { return *destination },
	}
}

func duration(
	name string, destination *time.Duration, defaultValue, least, most time.Duration, meaning, consequence string,
) setting {
	return setting{name, "duration", defaultValue.String(), meaning, consequence,
		func(value string) error {
			parsed, err := time.ParseDuration(value)
			if err != nil {
				return fmt.Errorf("%q must be a duration as in 30s or 500ms", value)
			}
			if parsed < least || parsed > most {
				return fmt.Errorf("%v must be from %v to %v", parsed, least, most)
			}
			*destination = parsed
			return nil
		},
		func() string { return destination.String() },
	}
}

func number(name string, destination *int, defaultValue, least, most int, unit, meaning, consequence string) setting {
	return setting{name, unit, strconv.Itoa(defaultValue), meaning, consequence,
		func(value string) error {
			parsed, err := strconv.Atoi(value)
			if err != nil || parsed < least || parsed > most {
				return fmt.Errorf("%q must be a whole number from %d to %d (%s)", value, least, most, unit)
			}
			*destination = parsed
			return nil
		},
		func() string { return strconv.Itoa(*destination) },
	}
}

func logLevel(name string, destination *slog.Level, defaultValue slog.Level, meaning, consequence string) setting {
	return setting{name, "level", strings.ToLower(defaultValue.String()), meaning, consequence,
		func(value string) error {
			if err := destination.UnmarshalText([]byte(value)); err != nil {
				return fmt.Errorf("%q must be debug, info, warn or error", value)
			}
			return nil
		},
		func() string { return strings.ToLower(destination.String()) },
	}
}
