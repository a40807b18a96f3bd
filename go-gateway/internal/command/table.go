package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"triptych.dev/gateway/internal/local"
)

// Lookup finds a variable of the environment, as os.LookupEnv does.
type Lookup func(name string) (value string, is bool)

// Table is a program's settings.
type Table struct {
	Program string // its name, which its variables begin with
	Rows    []Setting
}

// Setting is a row of the table.
type Setting struct {
	Name, Unit, Default string
	Meaning             string
	Parse               func(given string) error
	Show                func() string
}

func (t Table) env(row Setting) string {
	return strings.ToUpper(strings.ReplaceAll(t.Program+"_"+row.Name, "-", "_"))
}

// WriteMarkdown writes the table for a document.
func (t Table) WriteMarkdown(out io.Writer) error {
	var table strings.Builder
	table.WriteString("| flag | environment | default | unit | meaning |\n|---|---|---|---|---|\n")
	for _, row := range t.Rows {
		shown := "(empty)"
		if row.Default != "" {
			shown = "`" + row.Default + "`"
		}
		fmt.Fprintf(&table, "| `--%s` | `%s` | %s | %s | %s |\n", row.Name, t.env(row), shown, row.Unit, row.Meaning)
	}
	_, err := io.WriteString(out, table.String())
	return err
}

// NewFlags returns flags that print nothing by themselves.
func (t Table) NewFlags() *flag.FlagSet {
	flags := flag.NewFlagSet(t.Program, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	return flags
}

// Parse gives settings their values, and reports all faults together with those of check. A flag beats the environment.
func (t Table) Parse(flags *flag.FlagSet, arguments []string, lookup Lookup, check func() error) error {
	values := map[string]string{}
	for _, row := range t.Rows {
		values[row.Name] = row.Default
		if value, ok := lookup(t.env(row)); ok {
			values[row.Name] = value
		}
		usage := strings.ReplaceAll(row.Meaning, "`", "") + fmt.Sprintf("\n`%s`, default %q, or %s", row.Unit, row.Default, t.env(row))
		flags.Func(row.Name, usage, func(value string) error {
			values[row.Name] = value
			return nil
		})
	}
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	var faults []error
	if flags.NArg() > 0 {
		faults = append(faults, fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	}
	for _, row := range t.Rows {
		if err := row.Parse(values[row.Name]); err != nil {
			faults = append(faults, fmt.Errorf("--%s (%s): %w", row.Name, t.env(row), err))
		}
	}
	return errors.Join(append(faults, check())...)
}

// Values are the settings in force, for the log.
func (t Table) Values() map[string]string {
	values := map[string]string{}
	for _, row := range t.Rows {
		values[strings.ReplaceAll(row.Name, "-", "_")] = row.Show()
	}
	return values
}

// Healthcheck asks the program's listener on this machine whether it is ready, for containers that have no shell. Of settings it wants the
// listener's address alone, which is the one of this name.
func (t Table) Healthcheck(ctx context.Context, name string, arguments []string, lookup Lookup) error {
	rows := slices.DeleteFunc(slices.Clone(t.Rows), func(row Setting) bool { return row.Name != name })
	of := Table{t.Program, rows}
	if err := of.Parse(of.NewFlags(), arguments, lookup, func() error { return nil }); err != nil {
		return Usage(err)
	}
	probe, err := local.Probe(rows[0].Show())
	if err != nil {
		return Usage(err)
	}
	return local.Ready(ctx, probe)
}
