package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

func text(name, unit, value string, destination *string, meaning string) setting {
	return setting{name, unit, value, meaning, func(given string) error {
		*destination = given
		return nil
	}, func() string { return *destination }}
}

// What Kubernetes takes for names of objects here.
var objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

func optionalName(name string, destination *string, meaning string) setting {
	row := text(name, "name", "", destination, meaning)
	row.parse = func(given string) error {
		*destination = given
		if given != "" && !objectName.MatchString(given) {
			return fmt.Errorf("%q must be the name of an object: small letters, digits, - and ., 253 at most", given)
		}
		return nil
	}
	return row
}

func name(name, value string, destination *string, meaning string) setting {
	row := optionalName(name, destination, meaning)
	row.value = value
	check := row.parse
	row.parse = func(given string) error {
		if given == "" {
			return errors.New("it is missing")
		}
		return check(given)
	}
	return row
}

func list(name, unit string, destination *[]string, meaning string) setting {
	return setting{name, unit, "", meaning, func(given string) error {
		*destination = nil
		if given == "" {
			return nil
		}
		*destination = strings.Split(given, ",")
		for _, one := range *destination {
			if !objectName.MatchString(one) {
				return fmt.Errorf("%q must be the name of an object: small letters, digits, - and ., 253 at most", one)
			}
		}
		return nil
	}, func() string { return strings.Join(*destination, ",") }}
}

func boolean(name string, value bool, destination *bool, meaning string) setting {
	return setting{name, "true or false", strconv.FormatBool(value), meaning, func(given string) error {
		parsed, err := strconv.ParseBool(given)
		if err != nil {
			return fmt.Errorf("%q must be true or false", given)
		}
		*destination = parsed
		return nil
	}, func() string { return strconv.FormatBool(*destination) }}
}

func quantity(name, value string, destination *resource.Quantity, meaning string) setting {
	return setting{name, "bytes", value, meaning, func(given string) error {
		parsed, err := resource.ParseQuantity(given)
		if err != nil || parsed.Sign() <= 0 {
			return fmt.Errorf("%q must be an amount as 2Gi", given)
		}
		*destination = parsed
		return nil
	}, func() string { return destination.String() }}
}

// choice is one of some values, of which the first is the default.
func choice(name string, values []string, destination *string, meaning string) setting {
	row := text(name, strings.Join(values, " or "), values[0], destination, meaning)
	row.parse = func(given string) error {
		*destination = given
		if !slices.Contains(values, given) {
			return fmt.Errorf("%q must be %s", given, row.unit)
		}
		return nil
	}
	return row
}

// address is a URL of one of these schemes, which may be empty, or host:port where there are none.
func address(name, unit, value string, destination *string, schemes []string, meaning string) setting {
	row := text(name, unit, value, destination, meaning)
	row.parse = func(given string) error {
		*destination = given
		if schemes == nil {
			if _, _, err := net.SplitHostPort(given); err != nil {
				return fmt.Errorf("%q must be host:port", given)
			}
			return nil
		}
		if given == "" {
			return nil
		}
		parsed, err := url.Parse(given)
		if err != nil || parsed.Host == "" || !slices.Contains(schemes, parsed.Scheme) {
			return fmt.Errorf("must be as %s://host:port", schemes[0]) // it may have a password, and is not quoted
		}
		if parsed.User != nil {
			return errors.New("must have no user nor password: there is a file for it")
		}
		return nil
	}
	return row
}

func duration(name string, value, least, most time.Duration, destination *time.Duration, meaning string) setting {
	return setting{name, "duration", value.String(), meaning, func(given string) error {
		parsed, err := time.ParseDuration(given)
		if err != nil || parsed < least || parsed > most {
			return fmt.Errorf("%q must be a duration from %v to %v", given, least, most)
		}
		*destination = parsed
		return nil
	}, func() string { return destination.String() }}
}

func logLevel(name string, destination *slog.Level, meaning string) setting {
	return setting{name, "level", "info", meaning, func(given string) error {
		if err := destination.UnmarshalText([]byte(given)); err != nil {
			return fmt.Errorf("%q must be debug, info, warn or error", given)
		}
		return nil
	}, func() string { return strings.ToLower(destination.String()) }}
}
