package files

import (
	"cmp"
	"fmt"
	"path"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
)

// Purposes of files.
const (
	Batch       = "batch"        // requests, one a line, which are run later
	UserData    = "user_data"    // anything
	BatchOutput = "batch_output" // made by the gateway
)

// Bounds of files' names, and of lifetimes that are asked for; the latter are OpenAI's.
const (
	maxNameBytes = 255
	MinLifetime  = time.Hour
	MaxLifetime  = 30 * 24 * time.Hour
)

// About is what its uploader says of a file.
type About struct {
	Purpose, Name string
	Lifetime      time.Duration // 0: as the plan says
}

// CheckPurpose refuses a purpose that cannot be uploaded.
func CheckPurpose(purpose string) error {
	if purpose != Batch && purpose != UserData {
		return fault.InField(fault.InvalidValue, "purpose", "purpose must be %q, for requests that are run later, or %q, for anything else, not %.64q.", Batch, UserData, purpose)
	}
	return nil
}

// Check refuses what a file cannot be.
func (a About) Check() error {
	if err := CheckPurpose(a.Purpose); err != nil {
		return err
	}
	switch {
	case a.Name == "":
		return fault.InField(fault.InvalidValue, "file", "file must have a name: filename=\"…\" in its Content-Disposition.")
	case len(a.Name) > maxNameBytes:
		return fault.InField(fault.InvalidValue, "file", "The file's name has %d bytes; at most %d are taken.", len(a.Name), maxNameBytes)
	case !utf8.ValidString(a.Name) || strings.ContainsFunc(a.Name, unicode.IsControl) || strings.ContainsAny(a.Name, `/\`):
		return fault.InField(fault.InvalidValue, "file", "The file's name must be UTF-8 without control characters and slashes.")
	case a.Purpose == Batch && !strings.EqualFold(path.Ext(a.Name), ".jsonl"):
		return fault.InField(fault.InvalidValue, "file", "The name of a file of purpose %q must end in .jsonl.", Batch)
	case a.Lifetime != 0 && (a.Lifetime < MinLifetime || a.Lifetime > MaxLifetime):
		return fault.InField(fault.InvalidValue, "expires_after[seconds]", "expires_after[seconds] must be from %d to %d.", MinLifetime/time.Second, MaxLifetime/time.Second)
	}
	return nil
}

// Lifetime is how long a file may be kept for which a field asks for so long; 0: it asks for nothing, or the file never expires.
func Lifetime(asked time.Duration, field string, plan identity.Plan) (time.Duration, error) {
	most := plan.Retention.Files
	if most > 0 && asked > most {
		refused := &fault.Fault{Reason: fault.InvalidValue, Param: field, Limit: uint64(most / time.Second), Actual: uint64(asked / time.Second)}
		refused.Message = fmt.Sprintf("%s is %d, and the plan %q keeps files for %d seconds (retention_hours).", field, refused.Actual, plan.Name, refused.Limit)
		return 0, refused
	}
	return cmp.Or(asked, most), nil
}
