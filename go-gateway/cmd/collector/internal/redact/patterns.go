package redact

import (
	"regexp"
	"strings"
)

// placeholder is what is left of a secret.
const placeholder = "[redacted]"

// shape is how a kind of secret looks. A text without its literal does not have it, which is found out many times faster than
// by an expression; of a shape without one every text is tried.
type shape struct {
	literal    string
	expression *regexp.Regexp
}

// shapes are those of secrets that have one. Each is long enough that an ordinary word is not taken for one. Expressions of
// package regexp take time in proportion to the text, whoever wrote it.
var shapes = []shape{
	{"trip_", regexp.MustCompile(`trip_[0-9a-z]{8}_[0-9A-Za-z]{16,}`)}, // keys of this stack's gateway
	{"whsec_", regexp.MustCompile(`whsec_[0-9A-Za-z+/=]{16,}`)},        // secrets of webhooks
	{"", regexp.MustCompile(`(?i)\bbearer[ \t]+[0-9a-z._~+/=-]{8,}`)},
	{"eyJ", regexp.MustCompile(`eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}(\.[0-9A-Za-z_-]*)?`)}, // JSON Web Tokens
	{"sk-", regexp.MustCompile(`\bsk-[0-9A-Za-z_-]{16,}`)},                                    // OpenAI, Anthropic, and who does as they do
	{"k_", regexp.MustCompile(`\b[rs]k_(live|test)_[0-9A-Za-z]{16,}`)},                        // Stripe
	{"gh", regexp.MustCompile(`\b(gh[opsur]_[0-9A-Za-z]{36,}|github_pat_[0-9A-Za-z_]{36,})`)},
	{"hf_", regexp.MustCompile(`\bhf_[0-9A-Za-z]{30,}`)},
	{"xox", regexp.MustCompile(`\bxox[abeoprs]-[0-9A-Za-z-]{10,}`)}, // Slack
	{"AIza", regexp.MustCompile(`AIza[0-9A-Za-z_-]{35}`)},           // Google
	{"AKIA", regexp.MustCompile(`\bAKIA[0-9A-Z]{16}`)},              // Amazon: the name of a key, which finds its owner
	{"PRIVATE KEY", regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)`)},
	{"://", regexp.MustCompile(`://[^\s/:@]*:[^\s/@]+@`)}, // a password in a URL
}

// secretNames are those of attributes whose values are secrets, whatever they look like: the last part of a name.
var secretNames = map[string]bool{
	"authorization": true, "proxy-authorization": true, "cookie": true, "set-cookie": true, "x-api-key": true, "api-key": true,
	"password": true, "passwd": true, "secret": true, "token": true, "access-token": true, "refresh-token": true,
	"client-secret": true, "private-key": true,
}

func namesSecret(name string) bool {
	name = name[strings.LastIndexByte(name, '.')+1:]
	return len(name) <= 32 && secretNames[strings.ReplaceAll(strings.ToLower(name), "_", "-")]
}

// cleaner takes secrets out of texts.
type cleaner struct {
	shapes   []shape
	maxBytes int // of a text
}

// text returns a text without what looks like a secret, and whether there was one. It is valid UTF-8 and has not more than
// maxBytes: a file in JSON would not be one otherwise.
func (c *cleaner) text(value string) (string, bool) {
	found := false
	for _, shape := range c.shapes {
		if !strings.Contains(value, shape.literal) || !shape.expression.MatchString(value) {
			continue
		}
		found = true
		value = shape.expression.ReplaceAllLiteralString(value, placeholder)
	}
	value = strings.ToValidUTF8(value, "\uFFFD")
	if len(value) > c.maxBytes { // only now: a key that is cut in two has no shape any more
		value = strings.ToValidUTF8(value[:c.maxBytes], "")
	}
	return value, found
}
