package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"triptych.dev/gateway/internal/command"
)

// What Kubernetes takes for names of objects here.
var objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

func optionalName(name string, destination *string, meaning string) command.Setting {
	row := command.Text(name, "name", "", destination, meaning)
	row.Parse = func(given string) error {
		*destination = given
		if given != "" && !objectName.MatchString(given) {
			return fmt.Errorf("%q must be the name of an object: small letters, digits, - and ., 253 at most", given)
		}
		return nil
	}
	return row
}

func name(name, value string, destination *string, meaning string) command.Setting {
	row := optionalName(name, destination, meaning)
	row.Default = value
	check := row.Parse
	row.Parse = func(given string) error {
		if given == "" {
			return errors.New("it is missing")
		}
		return check(given)
	}
	return row
}

func list(name, unit string, destination *[]string, meaning string) command.Setting {
	return command.Setting{Name: name, Unit: unit, Default: "", Meaning: meaning, Parse: func(given string) error {
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
	}, Show: func() string { return strings.Join(*destination, ",") }}
}

func boolean(name string, value bool, destination *bool, meaning string) command.Setting {
	return command.Setting{Name: name, Unit: "true or false", Default: strconv.FormatBool(value), Meaning: meaning, Parse: func(given string) error {
		parsed, err := strconv.ParseBool(given)
		if err != nil {
			return fmt.Errorf("%q must be true or false", given)
		}
		*destination = parsed
		return nil
	}, Show: func() string { return strconv.FormatBool(*destination) }}
}

func quantity(name, value string, destination *resource.Quantity, meaning string) command.Setting {
	return command.Setting{Name: name, Unit: "bytes", Default: value, Meaning: meaning, Parse: func(given string) error {
		parsed, err := resource.ParseQuantity(given)
		if err != nil || parsed.Sign() <= 0 {
			return fmt.Errorf("%q must be an amount as 2Gi", given)
		}
		*destination = parsed
		return nil
	}, Show: func() string { return destination.String() }}
}

// choice is one of some values, of which the first is the default.
func choice(name string, values []string, destination *string, meaning string) command.Setting {
	row := command.Text(name, strings.Join(values, " or "), values[0], destination, meaning)
	row.Parse = func(given string) error {
		*destination = given
		if !slices.Contains(values, given) {
			return fmt.Errorf("%q must be %s", given, row.Unit)
		}
		return nil
	}
	return row
}

// optionalURL is one of these schemes.
func optionalURL(name string, destination *string, schemes []string, meaning string) command.Setting {
	row := command.Text(name, "URL", "", destination, meaning)
	row.Parse = func(given string) error {
		*destination = given
		if given == "" {
			return nil
		}
		return command.CheckURL(given, schemes)
	}
	return row
}
