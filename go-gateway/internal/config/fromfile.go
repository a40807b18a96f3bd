package config

import (
	"fmt"
	"os"
	"strings"
)

// FromFile returns the value of a setting that may be in a file, as one with a password should: what is in the file at
// path, which is the setting "name-file", or the value where there is no such path.
func FromFile(name, value, path string) (string, error) {
	if path == "" {
		return value, nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%s-file: %w", name, err)
	}
	if value = strings.TrimSpace(string(content)); value == "" {
		return "", fmt.Errorf("%s-file: %s is empty", name, path)
	}
	return value, nil
}

// checkOnePlace refuses a setting that is given both as a value and in a file.
func checkOnePlace(name, value, path string) error {
	if value != "" && path != "" {
		return fmt.Errorf("%s and %s-file are two places of one setting: give one of them", name, name)
	}
	return nil
}
