package plans

import "time"

// Retention is for how long what durable work leaves behind is kept. 0: as long as the gateway keeps it where no plan says.
type Retention struct {
	Files   time.Duration // from when they are created
	Batches time.Duration // from their end, as Jobs
	Jobs    time.Duration
}

// maxRetentionHours is ten years.
const maxRetentionHours = 87_600

// writtenRetention is in hours.
type writtenRetention struct {
	Files   number `yaml:"files"`
	Batches number `yaml:"batches"`
	Jobs    number `yaml:"jobs"`
}

func (w writtenRetention) read(at string, fault func(string, ...any)) Retention {
	hours := func(field string, n number) time.Duration {
		return time.Duration(n.read(at+"."+field, maxRetentionHours, fault)) * time.Hour
	}
	return Retention{Files: hours("files", w.Files), Batches: hours("batches", w.Batches), Jobs: hours("jobs", w.Jobs)}
}
