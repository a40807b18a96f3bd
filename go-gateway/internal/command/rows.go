package command

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Text is any.
func Text(name, unit, value string, destination *string, meaning string) Setting {
	return Setting{name, unit, value, meaning, func(given string) error {
		*destination = given
		return nil
	}, func() string { return *destination }}
}

// HostPort is where to listen.
func HostPort(name, value string, destination *string, meaning string) Setting {
	row := Text(name, "host:port", value, destination, meaning)
	row.Parse = func(given string) error {
		*destination = given
		if _, _, err := net.SplitHostPort(given); err != nil {
			return fmt.Errorf("%q must be host:port", given)
		}
		return nil
	}
	return row
}

// CheckURL refuses what is no URL of a host by one of these schemes, and one with a password.
func CheckURL(given string, schemes []string) error {
	parsed, err := url.Parse(given)
	if err != nil || parsed.Host == "" || !slices.Contains(schemes, parsed.Scheme) {
		return fmt.Errorf("must be as %s://host:port", schemes[0]) // it may have a password, and is not quoted
	}
	if parsed.User != nil {
		return errors.New("must have no user nor password: there are files for them")
	}
	return nil
}

// Duration is one from least to most.
func Duration(name string, value, least, most time.Duration, destination *time.Duration, meaning string) Setting {
	return Setting{name, "duration", value.String(), meaning, func(given string) error {
		parsed, err := time.ParseDuration(given)
		if err != nil || parsed < least || parsed > most {
			return fmt.Errorf("%q must be a duration from %v to %v", given, least, most)
		}
		*destination = parsed
		return nil
	}, func() string { return destination.String() }}
}

// LogLevel is what goes to the log.
func LogLevel(name string, destination *slog.Level, meaning string) Setting {
	return Setting{name, "level", "info", meaning, func(given string) error {
		if err := destination.UnmarshalText([]byte(given)); err != nil {
			return fmt.Errorf("%q must be debug, info, warn or error", given)
		}
		return nil
	}, func() string { return strings.ToLower(destination.String()) }}
}
